//! What a web service keeps beside its data: sessions that end by themselves, and counters that
//! many requests add to, each in a keyspace of its own.
//!
//! `cargo run --example keyspaces`

#![expect(clippy::print_stdout, reason = "an example shows what it read")]

use std::path::Path;
use std::time::Duration;

use futures_util::TryStreamExt;
use lightning_db::{ADD_U64, Batch, Database, Error, Keyspace, KeyspaceOptions};

/// How long a session lasts: short, so that this program sees one end.
const LASTS: Duration = Duration::from_millis(200);

/// The state of a service; its request handlers share clones.
#[derive(Debug, Clone)]
struct Service {
    db: Database,
    /// From a session's id to its user.
    sessions: Keyspace,
    /// From a page to how often it was seen.
    views: Keyspace,
}

impl Service {
    async fn open(path: &Path) -> Result<Self, Error> {
        let db = Database::builder(path).open_or_create().await?;
        // The same options each time: others would be refused.
        let lasting = KeyspaceOptions::new().ttl(LASTS);
        let adding = KeyspaceOptions::new().merge_operator(ADD_U64);
        Ok(Self {
            sessions: db.keyspace_or_create("sessions", lasting).await?,
            views: db.keyspace_or_create("views", adding).await?,
            db,
        })
    }

    /// Serves a page to whoever is signed in; returns how often it was seen.
    async fn view(&self, session: &str, page: &str) -> Result<Option<u64>, Error> {
        if !self.sessions.exists(session).await? {
            // Unknown, or ended by now.
            return Ok(None);
        }
        let views = self.views.merge(page, 1_u64.to_le_bytes()).await?;
        Ok(views[..].try_into().ok().map(u64::from_le_bytes))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let service = Service::open(&dir.path().join("service.db")).await?;

    // One batch may write to several keyspaces, and a write may have a time of its own.
    let mut batch = Batch::new();
    batch
        .put_in(&service.sessions, "s1", "ada")
        .put_in_with_ttl(&service.sessions, "s2", "grace", Duration::from_hours(1));
    service.db.write(batch).await?;

    // Requests at once, on any thread: no addition is lost.
    let requests = (0..20).map(|_| {
        let service = service.clone();
        tokio::spawn(async move { service.view("s2", "/home").await })
    });
    for request in requests.collect::<Vec<_>>() {
        assert!(request.await??.is_some());
    }
    let views = service.view("s2", "/home").await?;
    assert_eq!(views, Some(21));
    println!("/home was seen 21 times");

    while service.view("s1", "/").await?.is_some() {
        tokio::task::yield_now().await;
    }
    let left: Vec<_> = service.sessions.scan(..).try_collect().await?;
    assert_eq!(left, [("s2".into(), "grace".into())]);
    println!("the session of ada has ended, that of grace has not");

    for keyspace in service.db.keyspaces().await? {
        println!("keyspace {:?}: {:?}", keyspace.name, keyspace.options);
    }
    service.db.drop_keyspace("views").await?;
    service.db.close().await?;
    Ok(())
}
