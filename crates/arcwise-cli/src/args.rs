//! What can be said on the command line.

use std::{net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use arcwise::{Copies, RelayUrl, Share, Time, Url};
use jiff::{Span, SpanRelativeTo, Timestamp};

use crate::{commands::simulate, demo, exit::EXIT_CODES};

/// Share files and folders with other machines, directly.
///
/// Machines that share have a space in common. Each compares with the others what it holds, fetches
/// what it lacks, and is told at once what is new. No server stands in between.
#[derive(clap::Parser, Debug)]
#[command(name = "arcwise", version, max_term_width = 100, arg_required_else_help = true)]
#[command(after_help = "See `arcwise --help` for a first walk and the exit codes.")]
#[command(after_long_help = format!("{FIRST_WALK}\n\n{EXIT_CODES}"))]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const FIRST_WALK: &str = "\
A first walk, on one machine:
  arcwise init                          make a node: a folder and an identity
  arcwise serve                         run it; leave it running, go on in another terminal
  arcwise space create notes            make a space
  arcwise put ~/notes                   share a folder; prints its address
  arcwise ticket                        print what another machine needs to join
And on the other one, after init and serve:
  arcwise join TICKET --wait            join, and wait until all of it is there
  arcwise ls                            what has been put into the space
  arcwise get ADDRESS                   get it, by its address or the first digits of it
  arcwise status                        connected? in sync? how many copies are there?
  arcwise doctor                        where something does not work: what, why, and what to do

Data goes to stdout, talk and progress to stderr; with --json the data is JSON, and errors are too.";

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Global {
    /// The node's folder [default: $XDG_DATA_HOME/arcwise or ~/.local/share/arcwise]
    #[arg(long, global = true, env = "ARCWISE_DATA", value_name = "DIR", hide_env = true)]
    #[arg(help_heading = "Options for all commands")]
    pub(crate) data: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true, help_heading = "Options for all commands")]
    pub(crate) json: bool,
    /// Log more to stderr; twice for details. RUST_LOG says it exactly
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    #[arg(help_heading = "Options for all commands", conflicts_with = "quiet")]
    pub(crate) verbose: u8,
    /// No talk, no progress: only data and errors
    #[arg(short, long, global = true, help_heading = "Options for all commands")]
    pub(crate) quiet: bool,
}

#[derive(clap::Subcommand, Debug)]
pub(crate) enum Command {
    /// Make a node: a folder and an identity
    ///
    /// Prints the node's id. Where there is a node already, that stays as it is.
    Init,
    Serve(Serve),
    /// Ask the daemon to shut down, and wait until it has
    Stop,
    /// How the node stands: connected? in sync? how many copies are there?
    Status,
    /// Show or set how many bytes a second the node may send and receive, over all its connections
    ///
    /// Files, lists and summaries wait then, and the peers take turns; what is small does not wait. It stays
    /// set when the daemon starts again. QUIC adds some percent to it.
    #[command(after_help = "\
Examples:
  arcwise bandwidth                     show it
  arcwise bandwidth --up 2MiB --down 10MiB
  arcwise bandwidth --up none")]
    Bandwidth {
        /// Bytes a second, at least 64KiB, or `none`; left out, it stays as it is
        #[arg(long, value_name = "SIZE", value_parser = size_or_none)]
        up: Option<Size>,
        /// Bytes a second, at least 64KiB, or `none`; left out, it stays as it is
        #[arg(long, value_name = "SIZE", value_parser = size_or_none)]
        down: Option<Size>,
    },
    /// Watch how the spaces stand: prints a line whenever something changes, until Ctrl-C
    ///
    /// With --json it prints all that `status --json` says of a space.
    Watch(InSpace),
    Why(Why),
    Doctor(Doctor),
    /// The spaces the node is in
    #[command(subcommand, arg_required_else_help = true)]
    Space(SpaceCommand),
    /// Print a ticket, with which others join a space through this node
    ///
    /// Whoever has it can join, read and write; so it is a secret as far as the space is one. It
    /// stays good as long as this node can be reached where it is now.
    Ticket(InSpace),
    Join(Join),
    Put(Put),
    Get(Get),
    /// Print what is in a file
    ///
    /// Each piece is checked before it is printed.
    #[command(
        after_help = "Examples:\n  arcwise cat 3f9a1c | less\n  arcwise cat 3f9a1c/src/main.rs"
    )]
    Cat {
        /// The address of a file, or of a folder with the path of a file in it: ADDRESS/sub/path
        #[arg(value_name = "ADDRESS[/PATH]")]
        what: What,
        #[command(flatten)]
        space: InSpace,
    },
    /// List what was put into a space, or what is in a folder
    #[command(after_help = "Examples:\n  arcwise ls\n  arcwise ls 3f9a1c/src")]
    Ls {
        /// The address of a folder, and a path inside it; left out, everything that was put
        #[arg(value_name = "ADDRESS[/PATH]")]
        what: Option<What>,
        #[command(flatten)]
        space: InSpace,
    },
    Sync(Sync),
    Export(Export),
    Import(Import),
    /// What the node keeps on its disk
    #[command(subcommand, arg_required_else_help = true)]
    Store(StoreCommand),
    /// Who is connected, how well, and what they hold; and whom to keep away
    #[command(args_conflicts_with_subcommands = true)]
    Peers {
        /// Ask each for a sign of life, and show how long it took
        #[arg(long)]
        ping: bool,
        #[command(subcommand)]
        command: Option<PeersCommand>,
    },
    Replay(Replay),
    /// Watch two nodes find each other and come into sync: the protocol, message by message
    Demo(demo::Args),
    Simulate(Simulate),
    Plan(Plan),
}

/// Run the node: the daemon that all other commands talk to
///
/// Stays in the foreground, prints what happens, and stops in good order at Ctrl-C or SIGTERM; a
/// second one stops it at once. Whatever it had confirmed by then is on disk.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  arcwise serve
  arcwise serve --listen 0.0.0.0:4433 --listen '[::]:4433'
  arcwise serve --relay https://relay.example.org
  arcwise serve --pkarr https://dns.example.org/pkarr --dns-origin dns.example.org")]
pub(crate) struct Serve {
    /// A UDP address to listen on; may be given again [default: all, on the port of last time]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Vec<SocketAddr>,
    /// A relay to use where no direct path is found; may be given again [default: none]
    #[arg(long, value_name = "URL")]
    pub(crate) relay: Vec<RelayUrl>,
    /// Neither announce this node on the local network nor look for peers there
    #[arg(long)]
    pub(crate) no_local_network: bool,
    /// A pkarr relay at which to publish where this node is, and to ask where peers are; so an id is enough to
    /// find one. Who runs it learns of both [default: none]
    #[arg(long, value_name = "URL")]
    pub(crate) pkarr: Option<Url>,
    /// A domain whose DNS server says where peers are that publish at its pkarr relay [default: none]
    #[arg(long, value_name = "DOMAIN")]
    pub(crate) dns_origin: Option<String>,
    /// Refuse to store what would leave less room than this on the disk [default: 512 MiB]
    #[arg(long, value_name = "SIZE", value_parser = size, hide_short_help = true)]
    pub(crate) min_free: Option<u64>,
    /// The most that all spaces may hold together, such as 10GiB [default: any]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) limit: Option<u64>,
    /// The most bytes a second to send, such as 2MiB. With this or --max-down, what `arcwise bandwidth` has
    /// set does not count in this run
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) max_up: Option<u64>,
    /// The most bytes a second to receive
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) max_down: Option<u64>,
    /// Write what the node decides, and on what grounds, to a new file of 256 MiB at the most, for `arcwise
    /// replay`. What is shared is in it
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    pub(crate) capture: Option<PathBuf>,
}

/// Let the node decide once more what it has decided, from a file of `arcwise serve --capture`
///
/// Says where this version decides otherwise than the one that wrote the file. Neither a daemon nor a data folder
/// is needed. The file has neither the node's key nor the ids of its spaces in it, so a ticket of each space is
/// needed besides; but it has what was shared while it was written. The exit code is 1 where something is
/// different, and 9 where the file is damaged.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  arcwise replay capture - < ticket.txt")]
pub(crate) struct Replay {
    /// What `arcwise serve --capture` has written
    pub(crate) file: PathBuf,
    /// A ticket of a space that is in it, or - to read it from stdin, where nobody else on this machine sees it
    // Parsed later, since the parser repeats what it does not take, and this is a secret.
    #[arg(required = true, value_name = "TICKET")]
    pub(crate) tickets: Vec<String>,
}

#[derive(clap::Subcommand, Debug)]
pub(crate) enum SpaceCommand {
    /// Make a new space; prints its fingerprint
    Create {
        /// What to call it; others see it in tickets
        name: String,
        /// Remove what was published longer ago, such as 30d; at all nodes of the space, and for good
        /// [default: keep it for ever]
        #[arg(long, value_name = "TIME", value_parser = length_of_time)]
        keep: Option<Duration>,
        /// The most that it may hold on this node, such as 10GiB [default: any]
        #[arg(long, value_name = "SIZE", value_parser = size)]
        limit: Option<u64>,
        /// How many copies of everything there are to be, for good: at the least, below which nodes act at
        /// once, and normally [default: 8,20]
        #[arg(long, value_name = "MIN,TARGET", value_parser = copies)]
        copies: Option<Copies>,
        /// Which part of it this node holds: see `arcwise space arc`
        #[arg(long, value_name = "SHARE", default_value_t)]
        arc: Share,
    },
    /// List the spaces
    List,
    /// Set how much a space may hold on this node
    ///
    /// At the limit the node takes nothing new; it goes on serving what it holds, and takes again when
    /// there is room. What is held stays.
    Limit {
        /// Bytes, such as 10GiB, or `none`
        #[arg(value_name = "SIZE", value_parser = size_or_none)]
        limit: Size,
        #[command(flatten)]
        space: InSpace,
    },
    /// Show or set which part of a space this node holds
    ///
    /// By itself a node holds as much as is needed for everything to have enough copies: all of it while
    /// there are few nodes, and less the more there are. What is held outside of a new part stays until
    /// enough other nodes have said that they hold it, and is removed then.
    #[command(after_help = "\
Examples:
  arcwise space arc                     show it
  arcwise space arc full --space notes
  arcwise space arc 0.25
  arcwise space arc auto")]
    Arc {
        /// `auto`, `full`, `empty`, a part of the ring such as 0.25, or arcs as FIRST-LAST in 8 hexadecimal
        /// digits each, with commas between them; left out, what there is now is shown
        share: Option<Share>,
        /// Remove what is held outside at once and for good, whether others hold it or not
        #[arg(long, requires = "share")]
        drop: bool,
        #[command(flatten)]
        space: InSpace,
    },
    /// Leave a space and delete what this node holds of it
    Delete {
        /// Really delete it
        #[arg(long, required = true)]
        yes: bool,
        #[command(flatten)]
        space: InSpace,
    },
    /// Print the id of a space: the secret that lets others in
    ///
    /// A ticket is what others need; the id alone is for programs that use the protocol.
    Id {
        /// Really print it
        #[arg(long, required = true)]
        reveal: bool,
        #[command(flatten)]
        space: InSpace,
    },
}

#[derive(clap::Subcommand, Debug)]
pub(crate) enum StoreCommand {
    /// Read all of it, and say what is damaged
    ///
    /// Checks that each aspect is what its hash says, and that index, log, counters and sums agree. Where
    /// a daemon runs it does that, and goes on with everything else meanwhile. The exit code is 9
    /// where something is damaged.
    Check {
        /// Give up the aspects that are damaged, so that they are fetched again from peers
        #[arg(long)]
        repair: bool,
    },
    /// What it takes on the disk, and for what
    Stats,
    /// Give the disk back what was removed
    ///
    /// The daemon does this by itself after much was removed. Everything else goes on meanwhile.
    Compact,
}

#[derive(clap::Subcommand, Debug)]
pub(crate) enum PeersCommand {
    /// Have nothing to do with a peer: no connection, in neither direction, until it is unblocked
    ///
    /// What it has published still comes from others, and what is published here gets to it through others.
    Block {
        /// Its id, or the first digits of it where it is known
        peer: String,
    },
    /// Take that back
    Unblock {
        /// Its id, or the first digits of it
        peer: String,
    },
}

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct InSpace {
    /// The space: its name, or the first digits of its fingerprint [default: the only one]
    #[arg(long, short, value_name = "SPACE")]
    pub(crate) space: Option<String>,
}

/// Join a space with a ticket, or with several of the same space; prints its fingerprint
///
/// Tries to reach the nodes that the tickets name and says whether that worked with one of them. Where it did
/// not, the daemon keeps trying: the space is joined all the same, and the exit code is 5.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  arcwise join arcwise1aeb2gi3...
  arcwise join - --wait < ticket.txt")]
pub(crate) struct Join {
    /// The ticket, or - to read it from stdin, where nobody else on this machine sees it
    // Parsed later, since the parser repeats what it does not take, and this is a secret.
    #[arg(required = true, value_name = "TICKET")]
    pub(crate) tickets: Vec<String>,
    /// Wait until everything is here
    #[arg(long)]
    pub(crate) wait: bool,
    /// Which part of it this node holds: see `arcwise space arc` [default: auto]
    #[arg(long, value_name = "SHARE")]
    pub(crate) arc: Option<Share>,
    /// How long to wait for the connection, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub(crate) timeout: u32,
}

/// Put a file or a folder into a space; prints its address
///
/// The same content has the same address, whoever puts it, and takes no room twice. It is durable
/// when the address is printed, and on its way to the peers.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  arcwise put ~/notes
  arcwise put ~/notes --copies 2        and wait until two other nodes have it
  tar c ~/notes | arcwise put - --name notes.tar")]
pub(crate) struct Put {
    /// A file or a folder, or - for stdin
    pub(crate) path: PathBuf,
    /// What to call what comes from stdin
    #[arg(long, required_if_eq("path", "-"))]
    pub(crate) name: Option<String>,
    /// Wait until so many other nodes have said that they hold all of it durably. Ctrl-C ends the waiting,
    /// not the put
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..=Copies::MAX as i64))]
    pub(crate) copies: Option<u32>,
    #[command(flatten)]
    pub(crate) space: InSpace,
}

/// Where something is, and why it is or is not to be had
///
/// Says whether it is held here, which known nodes should have it, what came of asking them now, and how many
/// of them confirm that they hold it. Takes some seconds. The exit code is 4 where nobody has it.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  arcwise why 3f9a1c                    what was put, by the first digits of its address")]
pub(crate) struct Why {
    /// The address of an entry or the hash of an aspect, 64 digits; or the first digits of the address of
    /// what was put
    pub(crate) hash: String,
    #[command(flatten)]
    pub(crate) space: InSpace,
}

/// What does not work, why, and what to do about it
///
/// Looks at the daemon, its store, its addresses, its peers, their clocks, and the copies in each space. With
/// a peer or a ticket, it tries to reach that node at each of its addresses. The exit code is 1 where
/// something needs attention, 3 where no daemon runs, and 5 where the peer is not reached.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  arcwise doctor
  arcwise doctor 9c41e07b
  arcwise doctor - < ticket.txt")]
pub(crate) struct Doctor {
    /// The first digits of a peer's id, or a ticket, or - to read a ticket from stdin
    #[arg(value_name = "PEER|TICKET")]
    pub(crate) peer: Option<String>,
}

/// Get a file or a folder out of a space
///
/// Nothing that exists is ever replaced, and nothing appears under its name before all of it was
/// checked. What is not here yet is asked of the connected peers.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  arcwise get 3f9a1c                    under its own name, into this folder
  arcwise get 3f9a1c /tmp/notes
  arcwise get 3f9a1c --sub src/main.rs")]
pub(crate) struct Get {
    /// Its address, or enough of the first digits
    #[arg(value_name = "ADDRESS[/PATH]")]
    pub(crate) what: What,
    /// Where to [default: this folder, under its own name]
    pub(crate) path: Option<PathBuf>,
    /// Only what has this path inside the folder
    #[arg(long, value_name = "PATH-INSIDE")]
    pub(crate) sub: Option<String>,
    #[command(flatten)]
    pub(crate) space: InSpace,
}

/// Compare with a connected peer, or with all, and exchange what either lacks
///
/// The daemon does this by itself, all the time; this is to do it now and see what it took. The exit
/// code is 1 where it did not work with one of them, and 5 where none is connected.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  arcwise sync
  arcwise sync 9c41e07b --full
  arcwise sync --published-since 2h
  arcwise sync --published-since 2026-03-01T00:00:00Z")]
pub(crate) struct Sync {
    /// The first digits of a peer's id [default: all that are in the space]
    pub(crate) peer: Option<String>,
    #[command(flatten)]
    pub(crate) space: InSpace,
    /// Compare by lists of all hashes, relying on nothing that is kept to compare faster
    #[arg(long)]
    pub(crate) full: bool,
    /// Only what was published since then: a time (RFC 3339) or how long ago (2h, 3 days)
    #[arg(long, value_name = "TIME", value_parser = point_in_time)]
    pub(crate) published_since: Option<Time>,
}

/// Write a whole space into an archive: a copy to keep, or to carry where no network leads
///
/// The archive holds the id of the space and all its data, unencrypted. So it is as secret as a
/// ticket: whoever has it can join, read and write. A file is made for its owner alone, and nothing
/// that exists is replaced.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  arcwise export notes.arcwise
  arcwise export --space notes | zstd > notes.arcwise.zst")]
pub(crate) struct Export {
    /// The file to make, or - for stdout
    #[arg(default_value = "-")]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) space: InSpace,
}

/// Take what is in an archive into its space, and join that; prints its fingerprint
///
/// Each aspect is verified, and what the node holds already is not stored again. An import that did
/// not come to its end can be repeated. Peers get what is new to them.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  arcwise import notes.arcwise
  zstdcat notes.arcwise.zst | arcwise import -")]
pub(crate) struct Import {
    /// The archive, or - for stdin
    pub(crate) file: PathBuf,
}

/// Run a network of many nodes in virtual time, and see whether its data survives
///
/// The nodes decide as real ones do; the network, the disks and the people are simulated. The same scenario
/// and seed give the same results, to the bit. The exit code is 1 where something did not hold.
#[derive(clap::Args, Debug)]
#[command(after_help = simulate::help())]
pub(crate) struct Simulate {
    /// A scenario that is built in, or a TOML file
    #[arg(required_unless_present = "list")]
    pub(crate) scenario: Option<String>,
    /// List the scenarios that are built in
    #[arg(long, conflicts_with = "scenario")]
    pub(crate) list: bool,
    /// Print the scenario as TOML, as a beginning for one's own
    #[arg(long, conflicts_with_all = ["nodes", "length", "seed", "seeds", "html", "flow", "unchecked", "shrink"])]
    pub(crate) show: bool,
    /// How many nodes there are in all [default: as the scenario says]
    #[arg(long, value_name = "N")]
    pub(crate) nodes: Option<usize>,
    /// How much virtual time it goes on, such as 2h [default: as the scenario says]
    #[arg(long, value_name = "TIME")]
    pub(crate) length: Option<arcwise_sim::scenario::Span>,
    /// What all chance follows from [default: as the scenario says, else 1]
    #[arg(long, value_name = "S")]
    pub(crate) seed: Option<u64>,
    /// Run with so many seeds, from --seed on
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) seeds: u32,
    /// Write a report with plots into this file
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Where something does not hold, make the scenario smaller as long as that is so, and write it with its
    /// seed into this file; takes many runs
    #[arg(long, value_name = "FILE", conflicts_with = "flow")]
    pub(crate) shrink: Option<PathBuf>,
    /// Only model which node holds what, without messages: for up to a million nodes
    #[arg(long)]
    pub(crate) flow: bool,
    /// Decide on arcs by this rule; several, with commas between them, are compared
    #[arg(long, value_name = "RULE", value_delimiter = ',', requires = "flow")]
    #[arg(default_value = "arcwise")]
    pub(crate) rule: Vec<Rule>,
    /// Do not check each time that two nodes agree whether they hold the same, which takes time and memory
    #[arg(long, conflicts_with = "flow")]
    pub(crate) unchecked: bool,
}

/// How many copies a space should want, and what disk and bandwidth they take of each node
///
/// By formulae, which take nodes to be independent of each other. The exit code is 1 where such a network
/// cannot give what is asked for.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  arcwise plan --nodes 1000 --size 1TiB --writes 10GiB
  arcwise plan --nodes 200 --uptime 0.5 --session 4h --life 90d --size 50GiB --room 20GiB
  arcwise plan --nodes 1000 --size 1TiB --simulate")]
pub(crate) struct Plan {
    /// How many nodes there are, on or off
    #[arg(long, value_name = "N")]
    pub(crate) nodes: u64,
    /// How much data there is in the whole space
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) size: u64,
    /// How much of it is new in a day
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "0")]
    pub(crate) writes: u64,
    /// The part of the time in which a node is on
    #[arg(long, value_name = "PART", default_value_t = 0.9)]
    pub(crate) uptime: f64,
    /// How long it stays on, on average
    #[arg(long, value_name = "TIME", default_value = "1d")]
    pub(crate) session: arcwise_sim::scenario::Span,
    /// After how long it is gone for good, with its disk, on average
    #[arg(long, value_name = "TIME", default_value = "180d")]
    pub(crate) life: arcwise_sim::scenario::Span,
    /// One aspect of so many may be lost in a year: the exponent, so 9 is one of a billion
    #[arg(long, value_name = "NINES", default_value_t = 9.0)]
    pub(crate) nines: f64,
    /// For one second of so many, an aspect may be out of reach: the exponent
    #[arg(long, value_name = "NINES", default_value_t = 5.0)]
    pub(crate) reachable: f64,
    /// The part of the nodes that may be gone for good at the same moment
    #[arg(long, value_name = "PART", default_value_t = 0.3)]
    pub(crate) at_once: f64,
    /// Bytes a second that a node can send
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "2MiB")]
    pub(crate) up: u64,
    /// Bytes a second that it can receive
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "10MiB")]
    pub(crate) down: u64,
    /// How much a node has room for [default: any]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) room: Option<u64>,
    /// How long a node may be away before others take its place where there are too few copies
    #[arg(long, value_name = "TIME", default_value = "2m", hide_short_help = true)]
    pub(crate) patience: arcwise_sim::scenario::Span,
    /// Also simulate which node holds what in such a network, which takes some seconds
    #[arg(long)]
    pub(crate) simulate: bool,
}

/// How nodes decide which part of the ring to hold.
#[derive(clap::ValueEnum, Clone, Copy, Debug)]
pub(crate) enum Rule {
    /// As Arcwise does
    Arcwise,
    /// As lib3h recommended
    Lib3h,
    /// As kitsune did
    Kitsune,
}

/// An address or its first digits, and a path inside what has it.
#[derive(Clone, Debug)]
pub(crate) struct What {
    pub(crate) address: String,
    pub(crate) sub: Option<String>,
}

impl FromStr for What {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (address, sub) = match text.split_once('/') {
            Some((address, sub)) => (address, Some(sub).filter(|sub| !sub.is_empty())),
            None => (text, None),
        };
        Ok(Self { address: address.to_owned(), sub: sub.map(str::to_owned) })
    }
}

/// A number of bytes, or any number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size(pub(crate) Option<u64>);

fn size_or_none(text: &str) -> Result<Size, String> {
    match text {
        "none" => Ok(Size(None)),
        text => size(text).map(|size| Size(Some(size))),
    }
}

fn size(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 5] =
        [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40), ("", 1)];
    let neither = || "not a number of bytes, such as 500MiB or 1.5GiB".to_owned();
    let unit = UNITS.iter().find_map(|(unit, size)| Some((text.strip_suffix(unit)?, size)));
    let (number, unit) = unit.ok_or_else(neither)?;
    if let Ok(bytes) = number.parse::<u64>() {
        return bytes.checked_mul(*unit).ok_or_else(neither);
    }
    let number: f64 = number.trim().parse().map_err(|_| neither())?;
    let bytes = number * *unit as f64;
    (bytes >= 0.0 && bytes < u64::MAX as f64).then_some(bytes as u64).ok_or_else(neither)
}

fn copies(text: &str) -> Result<Copies, String> {
    let numbers = text
        .split_once(',')
        .and_then(|(min, target)| Some((min.trim().parse().ok()?, target.trim().parse().ok()?)));
    let (min, target) = numbers.ok_or("not two numbers such as 8,20")?;
    Copies::new(min, target).map_err(|error| error.to_string())
}

fn length_of_time(text: &str) -> Result<Duration, String> {
    let span: Span = text.parse().map_err(|_| "not a length of time such as 12h or 30 days")?;
    let span = span.to_duration(SpanRelativeTo::days_are_24_hours());
    let span = span.map_err(|_| "months and years differ in length; say it in days")?;
    let length = Duration::try_from(span).ok().filter(|length| *length >= Duration::from_secs(60));
    length.ok_or_else(|| "less than a minute".to_owned())
}

fn point_in_time(text: &str) -> Result<Time, String> {
    point_in_time_at(Timestamp::now(), text)
}

fn point_in_time_at(now: Timestamp, text: &str) -> Result<Time, String> {
    let time = match text.parse::<Timestamp>() {
        Ok(time) => time,
        Err(_) => {
            let neither = || {
                "neither a time like 2026-03-01T12:00:00Z nor a duration like 2h or 3 days"
                    .to_owned()
            };
            let span: Span = text.parse().map_err(|_| neither())?;
            let ago = span.to_duration(SpanRelativeTo::days_are_24_hours());
            let ago = ago.map_err(|_| "months and years differ in length; say it in days")?;
            if ago.is_negative() {
                return Err("that would be in the future".to_owned());
            }
            now.checked_sub(ago).map_err(|error| error.to_string())?
        }
    };
    let micros = time.as_microsecond().try_into();
    micros.map(Time::from_micros).map_err(|_| "before 1970 nothing was published".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Args::command().debug_assert();
    }

    #[test]
    fn sizes_and_lengths() {
        assert_eq!(size("0"), Ok(0));
        assert_eq!(size("1536"), Ok(1536));
        assert_eq!(size("1.5 KiB"), Ok(1536));
        assert_eq!(size("16777215TiB"), Ok(16_777_215 << 40));
        for bad in ["", "KiB", "-1", "1 kb", "99999999999GiB", "NaN", "inf"] {
            assert!(size(bad).is_err(), "{bad}");
        }
        assert_eq!(copies("3, 5"), Ok(Copies::new(3, 5).unwrap()));
        for bad in ["", "3", "5,3", "0,1", "1,256", "a,b", "1,2,3"] {
            assert!(copies(bad).is_err(), "{bad}");
        }
        assert_eq!(length_of_time("30d"), Ok(Duration::from_secs(30 * 86_400)));
        for bad in ["", "1s", "-2h", "1 month", "soon"] {
            assert!(length_of_time(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn points_in_time() {
        let now: Timestamp = "2026-03-04T12:00:00Z".parse().unwrap();
        for (text, time) in [
            ("2026-03-01T02:00:00+02:00", "2026-03-01T00:00:00Z"),
            ("2h", "2026-03-04T10:00:00Z"),
            ("1h30m", "2026-03-04T10:30:00Z"),
            ("3 days", "2026-03-01T12:00:00Z"),
            ("PT1M", "2026-03-04T11:59:00Z"),
        ] {
            let time: Timestamp = time.parse().unwrap();
            let parsed = point_in_time_at(now, text).unwrap();
            assert_eq!(parsed.as_micros(), time.as_microsecond() as u64, "{text}");
        }
        for bad in ["", "yesterday", "2 months", "-2h", "1969-01-01T00:00:00Z", "2026-03-01"] {
            assert!(point_in_time_at(now, bad).is_err(), "{bad}");
        }
    }
}
