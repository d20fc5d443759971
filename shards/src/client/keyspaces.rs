//! Keyspaces by name: making, finding, listing and dropping them, over the catalogue.
//!
//! # Algorithm
//! Creation:
//! 1. Take a number: the last one that was given, plus one, durably. One that is then not used is
//!    lost, and none is ever given twice.
//! 2. Swap the name's record from nothing to `live`. Of several who create one name, one succeeds.
//!
//! Dropping:
//! 1. Swap the record from `live` to `dropping`. From here on the name is gone.
//! 2. Tell every shard, which refuses whatever concerns the keyspace from then on: each handle on
//!    it and each batch, those that already wait for room included.
//! 3. Have every shard delete the keys, piece by piece.
//! 4. Remove the record.
//!
//! # Crash argument
//! Before step 1 of a drop is durable nothing happened. After it, whoever opens the database
//! finishes steps 2 to 4 ([`Client::resume_drops`]), and so does a creation of the same name that
//! comes first. A deletion is durable before the record goes, and the number is not given again: no
//! key of a keyspace that was dropped is ever in another.

use std::ops::Bound;

use futures_util::future::join_all;
use lightning_io::Submit;

use super::{Client, Swap};
use crate::catalogue::{
    DEFAULT_KEYSPACE_NAME, KeyspaceOptions, KeyspaceRecord, NEXT_ID_KEY, State, Stored, check_name,
    decode_last_id, encode_last_id, name_of, record_key, records,
};
use crate::message::{Change, Decide, Owner, Request};
use crate::{Durability, Error, KeyspaceId, Result, ShardId, StorageKey, StoredRange};

/// Attempts at a change of a record while others change it: each that fails is another's success.
const ATTEMPTS_MAX: usize = 16;

impl<S: Submit<Request>> Client<S> {
    /// Creates a keyspace.
    ///
    /// # Errors
    /// [`Error::KeyspaceExists`] when there is one of this name.
    ///
    /// # Cancel safety
    /// A future that is dropped before it completes may or may not have created it.
    pub async fn create_keyspace(
        &self,
        name: &str,
        options: &KeyspaceOptions,
    ) -> Result<KeyspaceRecord> {
        check_name(name)?;
        options.validate()?;
        let exists = || {
            let name = name.to_owned();
            Err(Error::KeyspaceExists { name })
        };
        if name == DEFAULT_KEYSPACE_NAME {
            return exists();
        }
        for _ in 0..ATTEMPTS_MAX {
            let before = self.stored(name).await?;
            match &before {
                Some(stored) if stored.state == State::Live => return exists(),
                Some(stored) if !planted!("recreate_keeps_keys") => {
                    self.delete_dropped(stored.record.id).await?;
                }
                _ => {}
            }
            let before_id = before.as_ref().map(|stored| stored.record.id);
            let id = match before_id.filter(|_| planted!("recreate_keeps_keys")) {
                Some(id) => id,
                None => self.take_id().await?,
            };
            let options = options.clone();
            let record = KeyspaceRecord { id, options };
            let live = Stored {
                state: State::Live,
                record: record.clone(),
            };
            if self.swap(name, before.as_ref(), Some(&live)).await? {
                return Ok(record);
            }
        }
        Err(self.contended(name))
    }

    /// Finds a keyspace by its name.
    ///
    /// # Errors
    /// [`Error::KeyspaceNotFound`] when there is none, [`Error::KeyspaceUnreadable`] when its
    /// record is not one that this build knows.
    ///
    /// # Cancel safety
    /// Dropping the future drops the answer.
    pub async fn keyspace(&self, name: &str) -> Result<KeyspaceRecord> {
        check_name(name)?;
        if name == DEFAULT_KEYSPACE_NAME {
            return Ok(default_keyspace());
        }
        match self.stored(name).await? {
            Some(stored) if stored.state == State::Live => Ok(stored.record),
            _ => Err(not_found(name)),
        }
    }

    /// Finds a keyspace by its name, or creates it.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it exists and is set up otherwise.
    ///
    /// # Cancel safety
    /// As for [`Self::create_keyspace`].
    pub async fn keyspace_or_create(
        &self,
        name: &str,
        options: &KeyspaceOptions,
    ) -> Result<KeyspaceRecord> {
        for _ in 0..ATTEMPTS_MAX {
            match self.keyspace(name).await {
                Ok(record) if record.options == *options => return Ok(record),
                Ok(_) => {
                    return Err(Error::Invalid {
                        what: "keyspace options",
                        reason: format!(
                            "the keyspace \"{name}\" was created with others, which cannot change"
                        ),
                    });
                }
                Err(Error::KeyspaceNotFound { .. }) => {}
                Err(error) => return Err(error),
            }
            match self.create_keyspace(name, options).await {
                Err(Error::KeyspaceExists { .. }) => {}
                outcome => return outcome,
            }
        }
        Err(self.contended(name))
    }

    /// Every keyspace in use with its name: the default one, then the others in the order of their
    /// names.
    ///
    /// # Errors
    /// [`Error::KeyspaceUnreadable`] for the first record that is not one that this build knows.
    ///
    /// # Cancel safety
    /// Dropping the future drops the answer.
    pub async fn keyspaces(&self) -> Result<Vec<(String, KeyspaceRecord)>> {
        let mut found = vec![(DEFAULT_KEYSPACE_NAME.to_owned(), default_keyspace())];
        for (name, stored) in self.all_stored().await? {
            let stored = stored?;
            if stored.state == State::Live {
                found.push((name, stored.record));
            }
        }
        Ok(found)
    }

    /// Drops a keyspace with everything in it. One whose drop was cut short is dropped to its end.
    ///
    /// # Errors
    /// [`Error::KeyspaceNotFound`] when there is none of this name, [`Error::Invalid`] for the
    /// default one. After any other error it may be gone already while some of its keys still take
    /// space: call it again.
    ///
    /// # Cancel safety
    /// A future that is dropped before it completes leaves the drop where it is: the next opening,
    /// or the next call for the same name, finishes it.
    pub async fn drop_keyspace(&self, name: &str) -> Result<()> {
        check_name(name)?;
        if name == DEFAULT_KEYSPACE_NAME {
            return Err(Error::Invalid {
                what: "keyspace name",
                reason: format!("\"{name}\" cannot be dropped; delete_range empties it"),
            });
        }
        for _ in 0..ATTEMPTS_MAX {
            let Some(before) = self.stored(name).await? else {
                return Err(not_found(name));
            };
            let id = before.record.id;
            let is_marked = before.state == State::Dropping
                || self
                    .swap(name, Some(&before), Some(&Stored::dropping(id)))
                    .await?;
            if is_marked {
                return self.finish_drop(name, id).await;
            }
        }
        Err(self.contended(name))
    }

    /// Finishes the drops that a crash cut short.
    ///
    /// # Errors
    /// The first that could not be finished; it can be tried again.
    ///
    /// # Cancel safety
    /// As for [`Self::drop_keyspace`].
    pub async fn resume_drops(&self) -> Result<()> {
        if planted!("drop_not_resumed") {
            return Ok(());
        }
        for (name, stored) in self.all_stored().await? {
            // One that cannot be read is told to whoever opens it.
            if let Ok(stored) = stored
                && stored.state == State::Dropping
            {
                self.finish_drop(&name, stored.record.id).await?;
            }
        }
        Ok(())
    }

    /// Makes sure that no keyspace to come gets the number of `highest` or one below.
    ///
    /// # Cancel safety
    /// Once polled, dropping the future drops the answer alone.
    pub async fn reserve_ids(&self, highest: KeyspaceId) -> Result<()> {
        self.change_last_id(move |last| Some(last.max(highest)))
            .await
            .map(drop)
    }

    /// Deletes the keys of a range, on all shards at once; returns how many there were.
    ///
    /// Each shard does so in pieces: what is written meanwhile may stay or go.
    ///
    /// # Errors
    /// The first shard's that failed; a part of the range may be deleted.
    ///
    /// # Cancel safety
    /// Dropping the future ends the deletion after the piece under way on each shard.
    pub async fn delete_range(
        &self,
        keyspace: KeyspaceId,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
    ) -> Result<u64> {
        let range = StoredRange::new(keyspace, from, to)?;
        self.delete_pieces(&range, Owner::InUse).await
    }

    /// What the catalogue says of a name.
    async fn stored(&self, name: &str) -> Result<Option<Stored>> {
        let found = self.get(KeyspaceId::SYSTEM, &record_key(name)).await?;
        found.map(|bytes| Stored::decode(name, &bytes)).transpose()
    }

    async fn all_stored(&self) -> Result<Vec<(String, Result<Stored>)>> {
        let (from, to) = records();
        let mut scanner = self.scan(KeyspaceId::SYSTEM, from, to);
        let mut all = Vec::new();
        while let Some((key, value)) = scanner.next().await? {
            if let Some(name) = name_of(&key) {
                all.push((name.to_owned(), Stored::decode(name, &value)));
            }
        }
        Ok(all)
    }

    /// Changes what the catalogue says of a name; `false` when it says something else by now.
    async fn swap(&self, name: &str, from: Option<&Stored>, to: Option<&Stored>) -> Result<bool> {
        let (from, to) = (from.map(Stored::encode), to.map(Stored::encode));
        let swap = Swap {
            expected: from.as_deref(),
            new: to.as_deref(),
        };
        let key = record_key(name);
        let swapped = self.compare_and_swap(KeyspaceId::SYSTEM, &key, swap, Durability::Sync);
        Ok(swapped.await?.is_ok())
    }

    /// Takes a number that no keyspace ever had.
    async fn take_id(&self) -> Result<KeyspaceId> {
        if planted!("keyspace_id_reused") {
            let count = lightning_io::to_u32(self.keyspaces().await?.len());
            return Ok(KeyspaceId(KeyspaceId::DEFAULT.0 + count));
        }
        self.change_last_id(|last| {
            let next = last.next();
            next.is_created().then_some(next)
        })
        .await
    }

    /// Changes the number that was given last; none leaves it as it is, and is an error.
    async fn change_last_id(
        &self,
        change: impl FnOnce(KeyspaceId) -> Option<KeyspaceId> + Send + 'static,
    ) -> Result<KeyspaceId> {
        let decide = Decide::new(move |found| {
            let last = found.map_or(Some(KeyspaceId::DEFAULT), decode_last_id);
            last.and_then(change)
                .map_or(Change::Keep, |id| Change::Put(encode_last_id(id)))
        });
        let updated = self.update(KeyspaceId::SYSTEM, NEXT_ID_KEY, decide, Durability::Sync);
        let updated = updated.await?;
        let value = updated.value.as_deref();
        match value
            .and_then(decode_last_id)
            .filter(|_| updated.at.is_some())
        {
            Some(id) => Ok(id),
            None => Err(Error::Invalid {
                what: "number of keyspaces",
                reason: format!(
                    "every id is used up, or the stored count is none: {} bytes",
                    value.map_or(0, <[u8]>::len)
                ),
            }),
        }
    }

    /// Steps 2 to 4 of a drop.
    async fn finish_drop(&self, name: &str, id: KeyspaceId) -> Result<()> {
        self.delete_dropped(id).await?;
        // Another may have removed the record by now, or put a new keyspace in its place.
        self.swap(name, Some(&Stored::dropping(id)), None)
            .await
            .map(drop)
    }

    async fn delete_dropped(&self, keyspace: KeyspaceId) -> Result<()> {
        self.ask_all(|reply| Request::DropKeyspace { keyspace, reply })
            .await?;
        let whole = StoredRange::new(keyspace, Bound::Unbounded, Bound::Unbounded)?;
        self.delete_pieces(&whole, Owner::Dropped).await.map(drop)
    }

    /// Deletes a range on all shards at once; the first failure counts, after all have ended.
    async fn delete_pieces(&self, range: &StoredRange, owner: Owner) -> Result<u64> {
        let shards = self.router().all();
        let deletions = shards.map(|shard| self.delete_on(shard, range.clone(), owner));
        let counts: Result<Vec<u64>> = join_all(deletions).await.into_iter().collect();
        Ok(counts?.into_iter().sum())
    }

    async fn delete_on(&self, shard: ShardId, range: StoredRange, owner: Owner) -> Result<u64> {
        let (mut rest, mut keys) = (Some(range), 0);
        while let Some(range) = rest.filter(|range| !range.is_empty()) {
            let piece = self.ask(shard, |reply| Request::DeletePiece {
                range,
                owner,
                reply,
            })?;
            let piece = piece.answer().await?;
            keys += piece.keys;
            rest = piece.rest;
        }
        Ok(keys)
    }

    fn contended(&self, name: &str) -> Error {
        let key = StorageKey::new(KeyspaceId::SYSTEM, &record_key(name));
        Error::Busy {
            shard: self.router().shard_of(key.as_slice()),
            what: "others create and drop the same keyspace all the time",
        }
    }
}

fn default_keyspace() -> KeyspaceRecord {
    KeyspaceRecord {
        id: KeyspaceId::DEFAULT,
        options: KeyspaceOptions::default(),
    }
}

fn not_found(name: &str) -> Error {
    Error::KeyspaceNotFound {
        name: name.to_owned(),
    }
}
