//! The session store of a web service: look a session up on each request, list and end all sessions
//! of a user.
//!
//! Two keys a session: `session/ID` holds its data and makes it valid; `user/USER/ID` is there to
//! find it by its user. Neither an id nor a user holds a `/`. A batch is atomic on each shard, not
//! across them, so the order matters: the second key is there before the first and goes after it.
//! A crash between the two then leaves a key without a session, never a session that cannot be
//! found and ended.
//!
//! `cargo run --example sessions`

#![expect(clippy::print_stdout, reason = "an example shows what it read")]

use std::path::Path;

use futures_util::TryStreamExt;
use lightning_db::{Batch, Database, Error};

/// A signed-in browser.
#[derive(Debug, PartialEq, Eq)]
struct Session {
    user: String,
    csrf_token: String,
}

/// All sessions of a service; shared by its request handlers.
#[derive(Debug, Clone)]
struct Sessions {
    db: Database,
}

impl Sessions {
    async fn open(path: &Path) -> Result<Self, Error> {
        let db = Database::builder(path).open_or_create().await?;
        Ok(Self { db })
    }

    async fn sign_in(&self, id: &str, session: &Session) -> Result<(), Error> {
        let user_key = format!("user/{}/{id}", session.user);
        self.db.put(user_key, "").await?;
        let data = format!("{}\n{}", session.user, session.csrf_token);
        self.db.put(format!("session/{id}"), data).await
    }

    async fn find(&self, id: &str) -> Result<Option<Session>, Error> {
        let data = self.db.get(format!("session/{id}")).await?;
        Ok(data.and_then(|data| {
            let (user, csrf_token) = str::from_utf8(&data).ok()?.split_once('\n')?;
            Some(Session {
                user: user.to_owned(),
                csrf_token: csrf_token.to_owned(),
            })
        }))
    }

    async fn sign_out(&self, id: &str) -> Result<(), Error> {
        let session = self.find(id).await?;
        self.db.delete(format!("session/{id}")).await?;
        if let Some(session) = session {
            self.db
                .delete(format!("user/{}/{id}", session.user))
                .await?;
        }
        Ok(())
    }

    /// The sessions of one user, for a page that lists where they are signed in.
    async fn of_user(&self, user: &str) -> Result<Vec<String>, Error> {
        let prefix = format!("user/{user}/");
        let mut keys = self.db.scan_prefix(&prefix).keys_only();
        let mut ids = Vec::new();
        while let Some((key, _)) = keys.try_next().await? {
            ids.push(String::from_utf8_lossy(&key[prefix.len()..]).into_owned());
        }
        Ok(ids)
    }

    /// Ends all sessions of a user, as after a change of their password.
    async fn sign_out_everywhere(&self, user: &str) -> Result<usize, Error> {
        let ids = self.of_user(user).await?;
        let (mut sessions, mut user_keys) = (Batch::new(), Batch::new());
        for id in &ids {
            sessions.delete(format!("session/{id}"));
            user_keys.delete(format!("user/{user}/{id}"));
        }
        self.db.write(sessions).await?;
        self.db.write(user_keys).await?;
        Ok(ids.len())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("sessions.db");
    let sessions = Sessions::open(&path).await?;
    let session = |user: &str| Session {
        user: user.to_owned(),
        csrf_token: format!("token of {user}"),
    };
    for (id, user) in [("a1", "ada"), ("a2", "ada"), ("g1", "grace"), ("a3", "ada")] {
        sessions.sign_in(id, &session(user)).await?;
    }
    sessions.sign_out("a2").await?;
    sessions.db.close().await?;

    // The service is started again.
    let sessions = Sessions::open(&path).await?;
    assert_eq!(sessions.find("a1").await?, Some(session("ada")));
    assert_eq!(sessions.find("a2").await?, None);
    println!("ada is signed in as {:?}", sessions.of_user("ada").await?);
    let ended = sessions.sign_out_everywhere("ada").await?;
    println!("{ended} sessions of ada ended");
    assert_eq!(ended, 2);
    assert_eq!(sessions.find("a3").await?, None);
    assert_eq!(sessions.find("g1").await?, Some(session("grace")));
    sessions.db.close().await?;
    Ok(())
}
