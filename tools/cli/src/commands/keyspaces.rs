//! The keyspaces of a database.

use lightning_db::{Database, KeyspaceInfo, KeyspaceOptions};

use super::with_database;
use crate::args::KeyspacesArgs;
use crate::error::CliError;
use crate::escape::escaped;
use crate::output::Output;
use crate::time::Time;

pub(super) fn run(args: &KeyspacesArgs) -> Result<(), CliError> {
    with_database(&args.database.database, async |db| match args {
        KeyspacesArgs {
            create: Some(name), ..
        } => {
            db.create_keyspace(name, options(args)).await?;
            Ok(())
        }
        KeyspacesArgs {
            drop: Some(name), ..
        } => Ok(db.drop_keyspace(name).await?),
        _ => list(db).await,
    })
}

fn options(args: &KeyspacesArgs) -> KeyspaceOptions {
    let mut options = KeyspaceOptions::new();
    if let Some(Time(ttl)) = args.ttl {
        options = options.ttl(ttl);
    }
    if let Some(operator) = &args.merge_operator {
        options = options.merge_operator(operator);
    }
    options
}

async fn list(db: &Database) -> Result<(), CliError> {
    let mut out = Output::new();
    for keyspace in db.keyspaces().await? {
        out.line(line(&keyspace))?;
    }
    out.flush()
}

fn line(keyspace: &KeyspaceInfo) -> String {
    let (name, id) = (escaped(keyspace.name.as_bytes()), keyspace.id);
    let ttl = keyspace.options.ttl.map(|ttl| format!("ttl={}", Time(ttl)));
    let operator = keyspace.options.merge_operator.as_deref();
    let operator = operator.map(|name| format!("merge-operator={}", escaped(name.as_bytes())));
    let fields = [Some(name), Some(id.to_string()), ttl, operator];
    fields.into_iter().flatten().collect::<Vec<_>>().join("\t")
}
