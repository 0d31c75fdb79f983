//! Compiles the wire schema, without needing `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto/arcwise.proto");
    let schema = protox::compile(["proto/arcwise.proto"], ["proto"])?;
    prost_build::Config::new().bytes(["."]).compile_fds(schema)?;
    Ok(())
}
