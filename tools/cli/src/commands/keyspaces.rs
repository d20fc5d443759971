//! The keyspaces of a database.

use lightning_db::{Database, KeyspaceInfo, KeyspaceOptions};

use super::with_database;
use crate::args::KeyspacesArgs;
use crate::error::CliError;
use crate::escape::escaped;
use crate::output::Output;

pub(super) fn run(args: &KeyspacesArgs) -> Result<(), CliError> {
    with_database(&args.database.database, async |db| match args {
        KeyspacesArgs {
            create: Some(name), ..
        } => {
            db.create_keyspace(name, KeyspaceOptions::new()).await?;
            Ok(())
        }
        KeyspacesArgs {
            drop: Some(name), ..
        } => Ok(db.drop_keyspace(name).await?),
        _ => list(db).await,
    })
}

async fn list(db: &Database) -> Result<(), CliError> {
    let mut out = Output::new();
    for keyspace in db.keyspaces().await? {
        out.line(line(&keyspace))?;
    }
    out.flush()
}

fn line(keyspace: &KeyspaceInfo) -> String {
    let KeyspaceInfo { name, id, .. } = keyspace;
    format!("{}\t{id}", escaped(name.as_bytes()))
}
