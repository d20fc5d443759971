//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand};

use crate::import::Format;
use crate::time::Time;

const EXAMPLES: &str = "\
Examples:
  lightning demo
  lightning import chars.db unicode.csv --key script,code_point
  lightning get chars.db Greek/0003B1
  lightning scan chars.db --prefix Greek/ --limit 10
  lightning count chars.db --prefix Greek/
  lightning put chars.db greeting hello
  lightning verify chars.db

Exit status: 0 success; 1 not found, damage or failure; 2 wrong usage.";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "lightning",
    version,
    about = "Import, read, scan, count, verify and look into a Lightning DB",
    after_help = EXAMPLES,
    arg_required_else_help = true
)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Do a real job on the shipped data: import, reads, scans, a batch, close, reopen, verify
    #[command(after_help = "\
Examples:
  lightning demo                  in a fresh directory under the system's temporary one
  lightning demo /mnt/nvme/demo   on a disk of your choice; the directory must be new or empty

The data is the Unicode character database, 34,888 rows; it travels inside the binary. Everything
that is read back is compared with it.")]
    Demo {
        /// Where to put the database; a new or empty directory
        #[arg(value_name = "DIR")]
        directory: Option<PathBuf>,
    },
    /// Import a CSV, TSV or JSON lines file, each row under the key that its columns make
    Import(ImportArgs),
    /// Store a value under a key
    #[command(after_help = "\
Examples:
  lightning put my.db user/1 '{\"name\":\"Ada\"}'
  lightning put my.db -- --key-with-dashes value
  lightning put my.db --keyspace users 1 Ada
  lightning put my.db $'any\\xffbytes' value")]
    Put {
        #[command(flatten)]
        at: KeyArgs,
        /// The value; any bytes
        value: OsString,
        /// Have it expire after a time: a number with ms, s, m, h or d
        #[arg(long, value_name = "TIME")]
        ttl: Option<Time>,
    },
    /// Print the value of a key: its raw bytes, and a newline only on a terminal
    #[command(after_help = "\
Examples:
  lightning get my.db user/1
  lightning get my.db image/7 > image.png")]
    Get(KeyArgs),
    /// Delete a key; deleting an absent key succeeds
    #[command(after_help = "Example:\n  lightning delete my.db user/1")]
    Delete(KeyArgs),
    /// Print entries in key order, one line each: the key, a tab, the value
    Scan(ScanArgs),
    /// Print the number of keys, in a whole keyspace or in a range
    #[command(after_help = "\
Examples:
  lightning count my.db
  lightning count my.db --prefix user/
  lightning count my.db --from 2024-01 --to 2024-02

The number is exact and as of one moment; no entry leaves its shard for it.")]
    Count(RangeArgs),
    /// List the keyspaces, create one, or drop one with everything in it
    Keyspaces(KeyspacesArgs),
    /// Show what each shard holds and has done since it was opened
    #[command(after_help = "Examples:\n  lightning stats my.db\n  lightning stats my.db --json")]
    Stats {
        #[command(flatten)]
        database: DatabaseArgs,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Read every live byte and check every checksum and the structure
    #[command(after_help = "\
Example:
  lightning verify my.db

Prints 'entries N' and 'ok', or one line for each damage and then exits with status 1.")]
    Verify(DatabaseArgs),
    /// Merge everything that was written into the base of each shard
    #[command(after_help = "\
Example:
  lightning compact my.db

Reads are fastest afterwards, and overwritten and deleted values take no space. The database does the
same in the background, piece by piece, as far as it is worth its writes.")]
    Compact(DatabaseArgs),
    /// Copy whatever can be read of a damaged database to a new one, and report what is lost
    Salvage(SalvageArgs),
}

/// Which database.
#[derive(Debug, ClapArgs)]
pub(crate) struct DatabaseArgs {
    /// The database's directory
    #[arg(value_name = "DB")]
    pub(crate) database: PathBuf,
}

/// Which key of which database.
#[derive(Debug, ClapArgs)]
pub(crate) struct KeyArgs {
    /// The database's directory
    #[arg(value_name = "DB")]
    pub(crate) database: PathBuf,
    #[command(flatten)]
    pub(crate) keyspace: InKeyspace,
    /// The key; any bytes
    #[arg(value_name = "KEY")]
    pub(crate) key: OsString,
}

/// Which keyspace of a database.
#[derive(Debug, ClapArgs)]
pub(crate) struct InKeyspace {
    /// The keyspace, which must exist [default: the one that every database has]
    #[arg(long = "keyspace", value_name = "NAME")]
    pub(crate) name: Option<String>,
}

/// What to do about keyspaces.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  lightning keyspaces my.db
  lightning keyspaces my.db --create users
  lightning keyspaces my.db --create sessions --ttl 12h
  lightning keyspaces my.db --create counters --merge-operator add-u64
  lightning keyspaces my.db --drop users

Without an option it prints one line for each keyspace: its name (escaped as 'lightning scan' does),
its number and its options, separated by tabs. --create fails if there is one of the name. --drop
deletes every key of the keyspace; the space of what it held comes back as flushes go on.")]
pub(crate) struct KeyspacesArgs {
    #[command(flatten)]
    pub(crate) database: DatabaseArgs,
    /// Create a keyspace; 1 to 128 bytes, no control characters
    #[arg(long, value_name = "NAME", conflicts_with = "drop")]
    pub(crate) create: Option<String>,
    /// Have what is written to it expire after a time: a number with ms, s, m, h or d
    #[arg(long, value_name = "TIME", requires = "create")]
    pub(crate) ttl: Option<Time>,
    /// Let programs merge values in it: add-u64, append, or an operator that they bring
    #[arg(long, value_name = "NAME", requires = "create")]
    pub(crate) merge_operator: Option<String>,
    /// Drop a keyspace with everything in it
    #[arg(long, value_name = "NAME")]
    pub(crate) drop: Option<String>,
}

/// What to import, and how.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  lightning import my.db users.csv --key id
  lightning import my.db chars.tsv --key script,code_point --shards 4
  zcat events.jsonl.gz | lightning import my.db - --format jsonl --key user,time
  lightning import my.db users.csv --key id --keyspace users

A row's key is the text of its key columns, joined by '/'; its value is the row as one JSON object.
Every value of a CSV or TSV row is a string; JSON values stay as they are. TSV fields are not quoted.
Where a key comes more than once, the last row stays. Blank lines are passed over.

A row that cannot be used ends the import with status 1, and the message says how many rows before it
are durable. With --skip-bad such rows are counted, the first ten are reported, and the rest goes on.")]
pub(crate) struct ImportArgs {
    /// The database's directory; created if it is missing
    #[arg(value_name = "DB")]
    pub(crate) database: PathBuf,
    #[command(flatten)]
    pub(crate) keyspace: InKeyspace,
    /// The file to import; '-' is standard input
    pub(crate) file: PathBuf,
    /// How the file is written [default: by its extension]
    #[arg(long)]
    pub(crate) format: Option<Format>,
    /// The column or columns whose values make the key
    #[arg(long, value_name = "COLUMN,..", required = true, value_delimiter = ',')]
    pub(crate) key: Vec<String>,
    /// How many shards to create the database with
    #[arg(long, value_name = "N")]
    pub(crate) shards: Option<usize>,
    /// Skip rows that cannot be used
    #[arg(long)]
    pub(crate) skip_bad: bool,
    /// Print 'acked N' each time that the first N rows are durable (or skipped)
    #[arg(long)]
    pub(crate) ack: bool,
}

/// Which keys of which database.
#[derive(Debug, ClapArgs)]
pub(crate) struct RangeArgs {
    /// The database's directory
    #[arg(value_name = "DB")]
    pub(crate) database: PathBuf,
    #[command(flatten)]
    pub(crate) keyspace: InKeyspace,
    /// Only keys that begin with this
    #[arg(long)]
    pub(crate) prefix: Option<OsString>,
    /// Only keys from this one on
    #[arg(long, value_name = "KEY")]
    pub(crate) from: Option<OsString>,
    /// Only keys before this one
    #[arg(long, value_name = "KEY")]
    pub(crate) to: Option<OsString>,
}

/// Which entries to print.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  lightning scan my.db --prefix user/ --limit 10
  lightning scan my.db --prefix event/ --reverse --limit 10
  lightning scan my.db --from 2024-01 --to 2024-02 --keys

In keys and values, tab, newline, carriage return and backslash print as \\t \\n \\r \\\\, and each
byte that is not UTF-8 as \\x and two hexadecimal digits.")]
pub(crate) struct ScanArgs {
    #[command(flatten)]
    pub(crate) range: RangeArgs,
    /// From the last key to the first; with --limit, the last entries
    #[arg(long)]
    pub(crate) reverse: bool,
    /// At most so many entries
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
    /// Print keys only
    #[arg(long)]
    pub(crate) keys: bool,
}

/// What to copy, and where to.
#[derive(Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  lightning salvage broken.db rescued.db
  lightning salvage broken.db /mnt/other/rescued.db --report lost.txt
  lightning salvage broken.db rescued.db --json

For a database that does not open, or of which 'lightning verify' reports damage. DB is read under its
lock and not changed. OUT gets as many shards and an id of its own; until everything is in it, flushed
and verified, it cannot be opened.

The report has a line for each shard, one for each loss (its place, what is wrong there, and which
keys or which records of the log are lost with it), one for each damage that cost nothing, and a
total. It is printed, and written to OUT.salvage.txt (.json) beside OUT, which must not exist, or to
--report, which is written over. Where a part of the tree is lost, older versions of its keys are
copied if they can be found; the report counts them apart, as they may have been replaced or deleted.

Exit status: 0 nothing was lost; 1 something was lost, or it failed; 2 wrong usage.")]
pub(crate) struct SalvageArgs {
    /// The damaged database's directory
    #[arg(value_name = "DB")]
    pub(crate) database: PathBuf,
    /// The directory of the new database; it must not exist, or be empty
    #[arg(value_name = "OUT")]
    pub(crate) out: PathBuf,
    /// Where to write the report [default: beside OUT]
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
    /// Report as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Args::command().debug_assert();
    }
}
