//! Reading one shard.
//!
//! # Algorithm
//! 1. The newest sound superblock says which runs and which base count, and from which record on
//!    the log is needed.
//! 2. The versions of the log and of the runs go into a window; the base of the newest generation
//!    is walked, and of each of its keys the newer of both is written. Ranges under damaged pages,
//!    and keys whose large value is damaged, are lost; they are left out, and so is what the log
//!    and other runs say of them. With the list of runs everything is lost.
//! 3. If anything is lost, the log, the runs, the runs and the base of the older generation and
//!    every sound leaf of the file are read once more for the lost ranges alone, and of each key
//!    the newest version is written.
//!
//! # Why a found version may be trusted, and how far
//! The older generation holds every commit up to its newest timestamp. So where it is sound, a
//! leaf's version that is not newer than that and not in it was replaced or deleted before: it is
//! passed over. Any other found version was written once, and may have been replaced or deleted by
//! what is lost.

use std::path::{Path, PathBuf};

use lightning_io::Env;

use super::generations::Generations;
use super::log::{Log, Needed};
use super::offers::{is_behind, offer_found, offer_older, offer_part, offer_run};
use super::ranges::{Ranges, only};
use super::report::{Findings, Lost, ShardSalvage, what_of};
use super::source::Source;
use super::window::{Origin, Window};
use super::writer::{Sink, Writer};
use crate::shard::TREE_FILE_NAME;
use crate::tree::{Page, PageRef, TreePart, TreeReader, WalkStep, large_value_extent};
use crate::{
    Entry, EntryFlags, FileOwner, KEY_BYTES_MAX, KeyRange, Result, StorageKey, Timestamp,
    VALUE_BYTES_MAX,
};

/// A shard on its way from the old database to the new one.
pub(super) struct ShardReader<'a, E: Env, S> {
    pub(super) env: &'a Source<E>,
    pub(super) directory: PathBuf,
    pub(super) owner: FileOwner,
    pub(super) window_bytes: usize,
    /// What has expired by then is left out.
    pub(super) now: Timestamp,
    pub(super) findings: &'a mut Findings,
    pub(super) writer: Writer<'a, S>,
}

/// What the files of a shard are, as far as they can be read.
struct Sources<E: Env> {
    generations: Generations,
    tree: Option<TreeReader<Source<E>>>,
    /// The runs of the newest generation.
    runs: Vec<TreePart>,
    log: Log<E>,
    needed: Needed,
}

impl<E: Env, S: Sink> ShardReader<'_, E, S> {
    /// Writes everything that can be read; returns what it was.
    pub(super) async fn run(&mut self) -> Result<ShardSalvage> {
        let mut total = ShardSalvage {
            shard: self.owner.shard,
            ..ShardSalvage::default()
        };
        if let Err(error) = self.env.read_dir(&self.directory).await {
            self.findings
                .lose(&self.directory, 0, error.to_string(), Lost::Everything);
            return Ok(total);
        }
        let mut lost = Ranges::default();
        let sources = self.find(&mut lost).await?;
        if sources.tree.is_none() || sources.generations.newest.is_none() {
            lost.insert(&(None, None));
        }
        self.read_newest(&sources, &mut lost, &mut total).await?;
        if !lost.is_empty() {
            self.read_lost(&sources, &lost, &mut total).await?;
        }
        self.writer.flush().await?;
        Ok(total)
    }

    async fn find(&mut self, lost: &mut Ranges) -> Result<Sources<E>> {
        let (env, owner) = (self.env, self.owner);
        let generations = Generations::read(env, &self.directory, owner, self.findings).await?;
        let tree = self.find_tree(&generations).await;
        let runs = self.find_runs(tree.as_ref(), &generations, lost).await;
        let marks = generations.newest.map(|newest| newest.marks);
        let needed = Needed {
            checkpoint: marks.map(|marks| marks.checkpoint),
            durable: marks.map(|marks| marks.durable).unwrap_or_default(),
        };
        let log = Log::find(env, &self.directory, owner, needed, self.findings).await?;
        Ok(Sources {
            generations,
            tree,
            runs,
            log,
            needed,
        })
    }

    /// Opens the tree's file and looks at what reading does without.
    async fn find_tree(&mut self, generations: &Generations) -> Option<TreeReader<Source<E>>> {
        let path = self.directory.join(TREE_FILE_NAME);
        let tree = match TreeReader::open(self.env, &path, self.owner).await {
            Ok(tree) => tree,
            Err(error) => {
                self.findings
                    .lose(&path, 0, what_of(error), Lost::Keys((None, None)));
                return None;
            }
        };
        if let Err(error) = tree.check_header().await {
            self.findings.note(&path, 0, what_of(error));
        }
        if let Some(newest) = &generations.newest
            && let Err(error) = tree.check_space_map(&newest.tree).await
        {
            let what = format!("the space map: {}", what_of(error));
            self.findings.note(&path, 0, what);
        }
        Some(tree)
    }

    /// Reads the list of runs. Without it nobody knows which keys have a newer version in one.
    async fn find_runs(
        &mut self,
        tree: Option<&TreeReader<Source<E>>>,
        generations: &Generations,
        lost: &mut Ranges,
    ) -> Vec<TreePart> {
        let (Some(tree), Some(newest)) = (tree, &generations.newest) else {
            return Vec::new();
        };
        match tree.runs(&newest.tree).await {
            Ok(runs) => runs,
            Err(error) => {
                let what = format!("the list of runs: {}", what_of(error));
                let keys = (None, None);
                self.findings
                    .lose(tree.path(), 0, what, Lost::Keys(keys.clone()));
                lost.insert(&keys);
                Vec::new()
            }
        }
    }

    /// Step 2: what the newest generation and the log say.
    async fn read_newest(
        &mut self,
        sources: &Sources<E>,
        lost: &mut Ranges,
        total: &mut ShardSalvage,
    ) -> Result<()> {
        let mut from = Some(Vec::new());
        while let Some(start) = from {
            let is_first = start.is_empty();
            let mut window = Window::new(start, self.window_bytes);
            // What is missing is told once.
            let mut again = Findings::new(None);
            let findings = if is_first {
                &mut *self.findings
            } else {
                &mut again
            };
            let mut offer = |entry: Entry<'_>| window.offer(entry, Origin::Log);
            let read = sources.log.read(sources.needed, findings, &mut offer);
            let read = read.await?;
            if is_first {
                total.records = read.records;
                total.commits = read.commits;
                total.last_record = read.last_record;
            }
            if let (Some(tree), Some(newest)) = (&sources.tree, &sources.generations.newest) {
                for run in &sources.runs {
                    self.walk(tree, run, Origin::Run, &mut window, lost, total)
                        .await?;
                }
                let base = TreePart::base(&newest.tree);
                self.walk(tree, &base, Origin::Older, &mut window, lost, total)
                    .await?;
            }
            from = window.to().map(<[u8]>::to_vec);
            self.write_window(sources.tree.as_ref(), window, lost, total)
                .await?;
        }
        Ok(())
    }

    /// Writes what the log and the runs have of a window, but for what is lost.
    async fn write_window(
        &mut self,
        tree: Option<&TreeReader<Source<E>>>,
        mut window: Window,
        lost: &mut Ranges,
        total: &mut ShardSalvage,
    ) -> Result<()> {
        while let Some((key, mut version)) = window.pop_first() {
            if lost.contains(&key) || version.flags.contains(EntryFlags::TOMBSTONE) {
                continue;
            }
            match tree {
                Some(tree) if version.origin == Origin::Run => {
                    let (flags, value) = (version.flags, std::mem::take(&mut version.value));
                    if let Some(value) = self.value(tree, &key, flags, &value, lost).await {
                        version.value = value;
                        total.tree_entries += self.put(version.entry(&key)).await?;
                    }
                }
                _ => total.log_entries += self.put(version.entry(&key)).await?,
            }
        }
        Ok(())
    }

    /// The value of an entry of the tree's file; one that is damaged takes its key along.
    async fn value(
        &mut self,
        tree: &TreeReader<Source<E>>,
        key: &[u8],
        flags: EntryFlags,
        value: &[u8],
        lost: &mut Ranges,
    ) -> Option<Vec<u8>> {
        match tree.value(flags, value).await {
            Ok(value) => Some(value),
            Err(error) => {
                let (offset, bytes) = large_value_extent(value);
                let (what, keys) = (what_of(error), only(key));
                self.findings
                    .lose(tree.path(), offset, what, Lost::Keys(keys.clone()));
                if let Some(loss) = self.findings.losses.last_mut() {
                    loss.bytes = Some(bytes);
                }
                lost.insert(&keys);
                None
            }
        }
    }

    /// Walks one tree of the newest generation: the entries of a run go into the window, those of
    /// the base are written.
    async fn walk(
        &mut self,
        tree: &TreeReader<Source<E>>,
        part: &TreePart,
        origin: Origin,
        window: &mut Window,
        lost: &mut Ranges,
        total: &mut ShardSalvage,
    ) -> Result<()> {
        let mut walk = tree.walk(part, window.from());
        while let Some(step) = walk.next().await {
            match step {
                WalkStep::Page(_, page) => {
                    if is_behind(page.fences().lower, window.to()) {
                        break;
                    }
                    if page.level() == 0 && origin == Origin::Run {
                        offer_run(part, &page, window);
                    } else if page.level() == 0 {
                        self.copy_leaf(tree, &page, window, lost, total).await?;
                    }
                }
                WalkStep::Damage {
                    reference,
                    error,
                    keys,
                } => {
                    let lower = keys.0.as_deref().unwrap_or_default();
                    if is_behind(lower, window.to()) {
                        break;
                    }
                    // A range that began before this window was told with the one before.
                    if lower >= window.from() {
                        self.lose_page(tree.path(), reference, what_of(error), keys.clone());
                    }
                    lost.insert(&keys);
                }
            }
            self.env.yield_if_needed().await;
        }
        Ok(())
    }

    fn lose_page(&mut self, path: &Path, reference: PageRef, what: String, keys: KeyRange) {
        let offset = reference.offset();
        self.findings.lose(path, offset, what, Lost::Keys(keys));
        if let Some(loss) = self.findings.losses.last_mut() {
            loss.bytes = Some(u64::from(reference.len_bytes));
        }
    }

    /// Writes what a leaf of the base holds, but for what the log or a run knows better, or what a
    /// damaged page of a run may know better.
    async fn copy_leaf(
        &mut self,
        tree: &TreeReader<Source<E>>,
        page: &Page,
        window: &mut Window,
        lost: &mut Ranges,
        total: &mut ShardSalvage,
    ) -> Result<()> {
        let mut key = Vec::new();
        for index in 0..page.entry_count() {
            let entry = page.entry_at(index, &mut key);
            // What the log has of the same commit or a later one is written from the window.
            let is_wanted = window.wants(entry.key, entry.timestamp, Origin::Older);
            if !is_wanted || lost.contains(entry.key) {
                continue;
            }
            let value = self.value(tree, entry.key, entry.flags, entry.value, lost);
            if let Some(value) = value.await {
                let entry = Entry {
                    value: &value,
                    ..entry
                };
                window.remove(entry.key);
                total.tree_entries += self.put(entry).await?;
            }
        }
        Ok(())
    }

    /// Step 3: the newest version of every lost key, from wherever.
    async fn read_lost(
        &mut self,
        sources: &Sources<E>,
        lost: &Ranges,
        total: &mut ShardSalvage,
    ) -> Result<()> {
        let mut from = Some(Vec::new());
        while let Some(start) = from {
            let mut window = Window::new(start, self.window_bytes);
            let mut told = Findings::new(None);
            let mut offer = |entry: Entry<'_>| {
                if lost.contains(entry.key) {
                    window.offer(entry, Origin::Log);
                }
            };
            let read = sources.log.read(sources.needed, &mut told, &mut offer);
            read.await?;
            if let Some(tree) = &sources.tree {
                for run in &sources.runs {
                    offer_part(tree, run, Origin::Run, lost, &mut window).await;
                }
                let older = sources.generations.older.as_ref();
                let covered = offer_older(tree, older, lost, &mut window).await?;
                offer_found(tree, lost, &covered, &mut window).await?;
            }
            from = window.to().map(<[u8]>::to_vec);
            self.write_found(sources.tree.as_ref(), window, total)
                .await?;
        }
        Ok(())
    }

    async fn write_found(
        &mut self,
        tree: Option<&TreeReader<Source<E>>>,
        mut window: Window,
        total: &mut ShardSalvage,
    ) -> Result<()> {
        while let Some((key, version)) = window.pop_first() {
            if version.flags.contains(EntryFlags::TOMBSTONE) {
                continue;
            }
            let mut version = version;
            if let Some(tree) = tree.filter(|_| version.origin != Origin::Log) {
                // It was sound when it was offered.
                let Ok(value) = tree.value(version.flags, &version.value).await else {
                    continue;
                };
                version.value = value;
            }
            let written = self.put(version.entry(&key)).await?;
            match version.origin {
                Origin::Log => total.log_entries += written,
                Origin::Run => total.tree_entries += written,
                Origin::Older => total.older_entries += written,
                Origin::Found => total.found_entries += written,
            }
        }
        Ok(())
    }

    /// Writes an entry and returns how many that were: none if its time is over, and otherwise with
    /// what is left of it. One that no call could have made is damage of a kind that no checksum
    /// finds.
    async fn put(&mut self, entry: Entry<'_>) -> Result<u64> {
        let Entry { key, value, .. } = entry;
        let user_bytes = StorageKey::user_key(key).map_or(0, <[u8]>::len);
        if user_bytes == 0 || user_bytes > KEY_BYTES_MAX || value.len() > VALUE_BYTES_MAX {
            let what = format!(
                "an entry with a stored key of {} bytes and a value of {}",
                key.len(),
                value.len()
            );
            self.findings
                .lose(&self.directory, 0, what, Lost::Keys(only(key)));
            return Ok(0);
        }
        let Some(ttl) = entry.ttl() else {
            self.writer.put(EntryFlags::VALUE, key, value).await?;
            return Ok(1);
        };
        let Some(rest) = ttl.rest(entry.timestamp, self.now) else {
            return Ok(0);
        };
        let value = [&rest.to_bytes(), entry.user_value()].concat();
        self.writer.put(EntryFlags::EXPIRING, key, &value).await?;
        Ok(1)
    }
}
