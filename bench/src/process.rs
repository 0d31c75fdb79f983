//! The processes of a measurement, and what they say to each other.

use std::{fmt::Display, process::Stdio};

use anyhow::Context;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines, Stdin, stdin},
    process::{Child, ChildStdin, ChildStdout, Command},
};

/// A child process that speaks JSON lines.
pub struct Process {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Process {
    /// Runs this program with another command and other options.
    pub fn start(command: &str, options: &[(&str, &dyn Display)]) -> anyhow::Result<Self> {
        let options =
            options.iter().flat_map(|(name, value)| [name.to_string(), value.to_string()]);
        let mut child = Command::new(std::env::current_exe()?)
            .arg(command)
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let input = child.stdin.take().context("a pipe")?;
        let output = BufReader::new(child.stdout.take().context("a pipe")?).lines();
        Ok(Self { child, input, output })
    }

    pub async fn read<T: DeserializeOwned>(&mut self) -> anyhow::Result<T> {
        let line = self.output.next_line().await?.context("the process ended early")?;
        Ok(serde_json::from_str(&line)?)
    }

    pub async fn write(&mut self, line: &str) -> anyhow::Result<()> {
        self.input.write_all(format!("{line}\n").as_bytes()).await?;
        Ok(self.input.flush().await?)
    }

    /// Ends it as a crash would (SIGKILL).
    pub async fn kill(mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }

    pub async fn end(mut self) -> anyhow::Result<()> {
        drop(self.input);
        anyhow::ensure!(self.child.wait().await?.success(), "a process failed");
        Ok(())
    }
}

/// Says it to the process that started this one.
pub fn say(value: impl Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(&value)?);
    Ok(())
}

/// What the process that started this one says.
pub fn lines() -> Lines<BufReader<Stdin>> {
    BufReader::new(stdin()).lines()
}
