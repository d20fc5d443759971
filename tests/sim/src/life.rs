//! One run: a database from its creation through several lives, each ended in its own way.
//!
//! # Algorithm
//! A life is a world on the disk that the one before left: open, check everything, let clients
//! work, end. It ends at a point that the seed chose (a power failure or a killed process), or
//! well. After a power failure what the disk holds is fixed, so it is recovered in worlds on the
//! side: with other seeds, and cut off again while it recovers. All of them must come to the same
//! content.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use lightning_io::sim::{CrashPoint, Fault, Image, PPM, Rng, World};
use lightning_io::{Env, IoOp, TaskClass, to_u64};
use lightning_shards::{Error, OpenMode};

use crate::database::{Database, Opening, Site};
use crate::explain::explains;
use crate::keys::{KEYSPACE, KeyId, Keys};
use crate::model::{Cut, Model, Shown};
use crate::panics;
use crate::plan::{Options, Plan, Purpose, log_uniform};
use crate::report::{Figures, Violation};
use crate::workload::{Caller, Phase, Scene, Wanted};

/// How much later than promised a relaxed write may reach the disk: records ahead of it and slow
/// writes take their time, which no caller sees as long as nothing crashes.
const RELAXED_GRACE: Duration = Duration::from_millis(500);

/// What a run came to.
#[derive(Debug)]
pub struct Outcome {
    /// How much it tried.
    pub figures: Figures,
    /// What went wrong.
    pub violation: Option<Violation>,
    /// What it did, as a number: equal for equal seeds and options.
    pub hash: u64,
    /// The last events of the world that failed.
    pub trace: String,
}

/// Runs one seed.
pub fn run(seed: u64, options: &Options) -> Outcome {
    let guard = panics::record();
    let mut life = Life::new(seed, options);
    let result = life.run();
    let violation = match (result, guard.take()) {
        (Err(End::Violation(step, what)), panics) => Some((step, with_panics(what, &panics))),
        (_, panics) if !panics.is_empty() => Some((
            life.step(Phase::Working),
            format!("panicked: {}", panics.join("; ")),
        )),
        _ => None,
    };
    let mut figures = life.scene_figures();
    figures.runs = 1;
    for (fault, strikes) in &life.fired {
        figures.note_fault(*fault, *strikes, 1);
    }
    let faults = life
        .fired
        .iter()
        .map(|(fault, count)| (*fault, *count))
        .collect();
    Outcome {
        figures,
        violation: violation.map(|(step, what)| Violation {
            seed,
            step,
            what,
            faults,
        }),
        hash: life.hash,
        trace: life.trace,
    }
}

fn with_panics(what: String, panics: &[String]) -> String {
    if panics.is_empty() {
        what
    } else {
        format!("{what}; panicked: {}", panics.join("; "))
    }
}

/// Why a run ended early.
enum End {
    /// Something that must never happen: where, and what.
    Violation(String, String),
    /// The disk is damaged for good, and the database says so.
    Damaged,
}

type Step<T = ()> = Result<T, End>;

/// What a world is run for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Aim {
    /// Open, check, let clients work, and close or not.
    Work { close: bool },
    /// Open and check.
    Check,
}

/// How a world ended.
#[derive(Debug)]
enum Ended {
    /// The crash point was reached, in this phase.
    Cut(Phase),
    /// The work is done; whether the database was closed well.
    Done { closed: bool },
    /// It could not be opened because of a fault.
    NotOpened(Error),
}

/// Where each shard's recovered content stands in its history.
type Cuts = Vec<Cut>;

struct Life {
    plan: Plan,
    options: Options,
    keys: Rc<Keys>,
    model: Rc<RefCell<Model>>,
    figures: Rc<RefCell<Figures>>,
    next_write: Rc<Cell<u64>>,
    course: Rng,
    worlds: Rng,
    faults: Rng,
    clients: u64,
    generation: usize,
    image: Option<Image>,
    /// Whether anything was ever acknowledged, so that the database has to be there.
    exists: bool,
    fired: BTreeMap<Fault, u64>,
    hash: u64,
    trace: String,
    last_ios: u64,
}

impl Life {
    fn new(seed: u64, options: &Options) -> Self {
        let plan = Plan::draw(seed, options);
        let keys = Rc::new(Keys::draw(plan.keys, &mut Purpose::Keys.stream(seed)));
        let model = Rc::new(RefCell::new(Model::new(Rc::clone(&keys), plan.shards)));
        Self {
            keys,
            model,
            figures: Rc::default(),
            next_write: Rc::new(Cell::new(1)),
            course: Purpose::Course.stream(seed),
            worlds: Purpose::Worlds.stream(seed),
            faults: Purpose::Faults.stream(seed),
            clients: 0,
            generation: 0,
            image: None,
            exists: false,
            fired: BTreeMap::new(),
            hash: 0,
            trace: String::new(),
            last_ios: 64,
            plan,
            options: options.clone(),
        }
    }

    fn scene_figures(&self) -> Figures {
        self.figures.borrow().clone()
    }

    fn step(&self, phase: Phase) -> String {
        format!("generation {}, {phase:?}", self.generation)
    }

    fn violation<T>(&self, phase: Phase, what: impl Into<String>) -> Step<T> {
        Err(End::Violation(self.step(phase), what.into()))
    }

    fn run(&mut self) -> Step {
        let lives = self.lives();
        if let Err(End::Damaged) = lives {
            self.figures.borrow_mut().refused += 1;
            return Ok(());
        }
        lives
    }

    fn lives(&mut self) -> Step {
        for generation in 0..self.plan.generations {
            self.generation = generation;
            let point = Plan::crash_point(&mut self.course);
            let close = self.course.coin();
            self.live(Aim::Work { close }, point, true)?;
        }
        // The end: everything is there, is sound, can be closed, and is there again.
        self.generation = self.plan.generations;
        self.live(Aim::Work { close: true }, None, false)?;
        self.generation += 1;
        self.live(Aim::Check, None, false)?;
        self.count_segments();
        Ok(())
    }

    /// One world on the image, and what its end leaves as the next image.
    fn live(&mut self, aim: Aim, point: Option<CrashPoint>, faulty: bool) -> Step {
        let world = self.world(faulty);
        let (ended, scene) = self.run_world(&world, aim, point, faulty)?;
        self.model.borrow_mut().take_last_answers(world.now());
        self.settle(&world, &scene)?;
        self.last_ios = world.io_count().max(16);
        // Where the work is done the power may still fail.
        let power_fails = match &ended {
            Ended::Cut(_) => self.course.below(8) > 0,
            Ended::Done { closed } => !closed || self.course.coin(),
            Ended::NotOpened(_) => self.course.coin(),
        };
        if let Ended::NotOpened(error) = &ended {
            self.judge_refusal(&world, error, faulty)?;
        }
        let image = if power_fails {
            world.crash()
        } else {
            world.shutdown()
        };
        let figures = Rc::clone(&self.figures);
        match (&ended, power_fails) {
            (Ended::Done { closed: true }, _) => figures.borrow_mut().closes += 1,
            (_, false) => figures.borrow_mut().kills += 1,
            (Ended::Cut(Phase::Working | Phase::Closing) | Ended::Done { .. }, true) => {
                figures.borrow_mut().tails_cut += to_u64(self.plan.shards);
            }
            _ => {}
        }
        self.image = Some(image);
        if power_fails {
            self.try_recoveries()?;
        }
        Ok(())
    }

    fn world(&mut self, faulty: bool) -> World {
        let mut config = self.plan.world(&self.options);
        let faults = self.options.faults.draw(&mut self.faults);
        if faulty {
            config.faults = faults;
        }
        let seed = self.worlds.next_u64();
        self.figures.borrow_mut().worlds += 1;
        match self.image.take() {
            Some(image) => World::with_image(seed, config, image),
            None => World::new(seed, config),
        }
    }

    fn opening(&mut self) -> Opening {
        let mode = if self.exists {
            self.course.pick(&[OpenMode::Open, OpenMode::OpenOrCreate])
        } else {
            OpenMode::OpenOrCreate
        };
        Opening {
            mode,
            name_shards: !self.exists || self.course.coin(),
            config: Plan::shard_config(&mut self.course),
        }
    }

    fn scene(&self, faulty: bool) -> Rc<Scene> {
        Rc::new(Scene {
            keys: Rc::clone(&self.keys),
            model: Rc::clone(&self.model),
            figures: Rc::clone(&self.figures),
            habits: self.plan.habits,
            faulty: faulty && !self.options.faults.is_empty(),
            phase: Cell::default(),
            violation: RefCell::default(),
            cuts: RefCell::default(),
            errors: RefCell::default(),
            next_write: Rc::clone(&self.next_write),
            stopped: Cell::new(false),
        })
    }

    /// Runs a session in a world; returns how it ended.
    fn run_world(
        &mut self,
        world: &World,
        aim: Aim,
        point: Option<CrashPoint>,
        faulty: bool,
    ) -> Step<(Ended, Rc<Scene>)> {
        let scene = self.scene(faulty);
        let opening = self.opening();
        let interval = opening.config.relaxed_interval;
        let session = Session {
            scene: Rc::clone(&scene),
            site: Site::new(world, self.plan.shards, self.plan.slots),
            opening,
            aim,
            exists: self.exists,
            clients: self.plan.clients,
            operations: self.plan.operations,
            seed: self.plan.seed,
            first_client: self.clients,
            name: format!("generation {}", self.generation),
        };
        self.clients += to_u64(self.plan.clients);
        let point = point.unwrap_or(CrashPoint::AfterPolls(u64::MAX));
        let ended = match world.run_until_crash(session.run(), point) {
            Ok(Some(ended)) => ended,
            Ok(None) => Ended::Cut(scene.phase.get()),
            Err(failure) => {
                self.note_world(world);
                return self.violation(scene.phase.get(), failure.to_string());
            }
        };
        if scene.phase.get() >= Phase::Checking {
            self.exists = true;
        }
        if scene.phase.get() >= Phase::Working && !scene.faulty {
            let promised = world.now().saturating_sub(interval + RELAXED_GRACE);
            self.model.borrow_mut().relaxed_until(promised);
        }
        Ok((ended, scene))
    }

    /// Takes the figures of a world, and decides about what went wrong in it.
    fn settle(&mut self, world: &World, scene: &Scene) -> Step {
        self.note_world(world);
        if let Some((step, what)) = scene.violation.borrow_mut().take() {
            return Err(End::Violation(step, what));
        }
        if let Some(what) = self.model.borrow().violation() {
            return self.violation(scene.phase.get(), what);
        }
        if let Some(panic) = world.task_panics().first() {
            return self.violation(scene.phase.get(), format!("a task panicked: {panic}"));
        }
        let errors = std::mem::take(&mut *scene.errors.borrow_mut());
        self.figures.borrow_mut().errors += to_u64(errors.len());
        for (step, error) in errors {
            if let Some(why) = explains(&self.fired, &world.damage(), &error) {
                let what = format!("unexpected error: {error} ({why})");
                return Err(End::Violation(step, what));
            }
        }
        Ok(())
    }

    fn note_world(&mut self, world: &World) {
        self.hash = self.hash.rotate_left(5) ^ world.trace_hash();
        for (fault, count) in world.faults_fired() {
            *self.fired.entry(fault).or_default() += count;
        }
        let mut figures = self.figures.borrow_mut();
        figures.ios += world.io_count();
        figures.polls += world.poll_count();
        figures.segments_created += world.calls(IoOp::Create, "wal-");
        self.trace = world.trace_text();
    }

    /// A database that does not open: because of faults of the moment, or of damage that stays.
    fn judge_refusal(&mut self, world: &World, error: &Error, faulty: bool) -> Step {
        self.figures.borrow_mut().open_errors += 1;
        let damage = world.damage();
        if let Some(why) = explains(&self.fired, &damage, error) {
            let what = format!("could not be opened: {error} ({why})");
            return self.violation(Phase::Opening, what);
        }
        let damaged = damage.iter().any(|damage| damage.live);
        if !faulty && damaged {
            return Err(End::Damaged);
        }
        if !faulty {
            let what = format!("could not be opened without faults: {error}");
            return self.violation(Phase::Opening, what);
        }
        Ok(())
    }

    /// Recovers the image that a power failure left, on the side, in several ways.
    fn try_recoveries(&mut self) -> Step {
        let Some(image) = self.image.clone() else {
            return Ok(());
        };
        if self.exists && self.course.below(3) > 0 {
            let cuts = self.recover(&image)?;
            // What the disk holds is fixed now: no later recovery may come to anything else.
            if let Some(cuts) = cuts {
                for (shard, cut) in cuts.into_iter().enumerate() {
                    self.model.borrow_mut().rebase(shard, cut);
                }
                if self.course.below(3) == 0 {
                    self.figures.borrow_mut().recoveries_repeated += 1;
                    self.recover(&image)?;
                }
            }
        }
        if self.course.coin() {
            self.crash_while_recovering(image)?;
        }
        Ok(())
    }

    /// Opens a copy of the image without faults and checks all that it holds.
    fn recover(&mut self, image: &Image) -> Step<Option<Cuts>> {
        self.image = Some(image.clone());
        let world = self.world(false);
        let (ended, scene) = self.run_world(&world, Aim::Check, None, false)?;
        self.settle(&world, &scene)?;
        self.image = Some(image.clone());
        match ended {
            Ended::NotOpened(error) => {
                self.judge_refusal(&world, &error, false)?;
                Ok(None)
            }
            _ => Ok(scene.cuts.borrow_mut().take()),
        }
    }

    /// Crashes while it recovers, up to three times in a row; the last image is lived on with.
    fn crash_while_recovering(&mut self, image: Image) -> Step {
        self.image = Some(image);
        let depth = 1 + self.course.below(3);
        for _ in 0..depth {
            let world = self.world(false);
            let ios = 1 + self.course.below(self.last_ios.min(400));
            let ios = if self.course.coin() {
                ios
            } else {
                log_uniform(&mut self.course, 6)
            };
            let point = CrashPoint::AfterIos(ios);
            let (ended, scene) = self.run_world(&world, Aim::Check, Some(point), false)?;
            self.settle(&world, &scene)?;
            if let Ended::NotOpened(error) = &ended {
                self.judge_refusal(&world, error, false)?;
            }
            if matches!(ended, Ended::Cut(Phase::Opening)) {
                self.figures.borrow_mut().nested_crashes += 1;
            }
            self.image = Some(world.crash());
        }
        Ok(())
    }

    /// Counts the segments that were taken into use again, from the numbers in names and headers.
    fn count_segments(&self) {
        let Some(image) = &self.image else {
            return;
        };
        let mut used: BTreeMap<PathBuf, (u64, u64)> = BTreeMap::new();
        for path in image.list_files() {
            let name = path
                .file_name()
                .map(|name| name.to_string_lossy().into_owned());
            let number = name.and_then(|name| name.strip_prefix("wal-")?.parse::<u64>().ok());
            let (Some(number), Some(parent)) = (number, path.parent()) else {
                continue;
            };
            let bytes = image.read_file(&path).unwrap_or_default();
            let id = bytes
                .get(SEGMENT_ID_AT..)
                .and_then(|bytes| bytes.first_chunk::<8>());
            let entry = used.entry(parent.to_path_buf()).or_default();
            entry.0 = entry.0.max(number);
            entry.1 = entry.1.max(id.map_or(0, |id| u64::from_le_bytes(*id)));
        }
        let recycled: u64 = used
            .values()
            .map(|(files, uses)| uses.saturating_sub(*files))
            .sum();
        self.figures.borrow_mut().segments_recycled += recycled;
    }
}

/// Where a segment's header has its number; see the log's format.
const SEGMENT_ID_AT: usize = 40;

/// What runs in one world.
struct Session {
    scene: Rc<Scene>,
    site: Site,
    opening: Opening,
    aim: Aim,
    exists: bool,
    clients: usize,
    operations: u64,
    seed: u64,
    first_client: u64,
    name: String,
}

impl Session {
    async fn run(self) -> Ended {
        let scene = Rc::clone(&self.scene);
        let env = self.site.clients.clone();
        let opened = Database::open(self.site, self.opening, &scene.model).await;
        let database = match opened {
            Ok(database) => Rc::new(database),
            Err(error) => return Ended::NotOpened(error),
        };
        scene.phase.set(Phase::Checking);
        let mut checker = Caller {
            scene: Rc::clone(&scene),
            database: Rc::clone(&database),
            env: env.clone(),
            rng: Rng::stream(self.seed, u64::from(PPM) + self.first_client),
            name: format!("{}, checking", self.name),
        };
        if self.exists {
            checker.check_recovery().await;
        }
        if scene.stopped.get() || self.aim == Aim::Check {
            return Ended::Done { closed: false };
        }
        scene.phase.set(Phase::Working);
        let mut working = Vec::new();
        for client in 0..self.clients {
            let number = self.first_client + to_u64(client);
            let caller = Caller {
                scene: Rc::clone(&scene),
                database: Rc::clone(&database),
                env: env.clone(),
                rng: Rng::stream(self.seed, Purpose::Clients as u64 + number),
                name: format!("{}, client {client}", self.name),
            };
            working.push(env.spawn(TaskClass::Foreground, caller.work(self.operations)));
        }
        for outcome in join_all(working).await {
            if let Err(panic) = outcome {
                scene.violate(&self.name, format!("a client: {panic}"));
            }
        }
        checker.note_stats().await;
        let Aim::Work { close: true } = self.aim else {
            return Ended::Done { closed: false };
        };
        if !scene.stopped.get() {
            checker.check_at_rest().await;
        }
        scene.phase.set(Phase::Closing);
        drop(checker);
        let Ok(database) = Rc::try_unwrap(database) else {
            scene.violate(&self.name, "a client has not let go of the database");
            return Ended::Done { closed: false };
        };
        let visible = scene.model.borrow().visible();
        match database.close().await {
            Ok(()) => {
                scene.model.borrow_mut().made_durable(&visible);
                Ended::Done { closed: true }
            }
            Err(error) => {
                scene.note_error(&format!("{}, closing", self.name), error);
                Ended::Done { closed: false }
            }
        }
    }
}

impl Caller {
    /// Reads everything that a recovery brought, and settles where in its history each shard
    /// stands.
    async fn check_recovery(&mut self) {
        let step = self.name.clone();
        let rows = match self.read_all().await {
            Ok(rows) => rows,
            Err(error) => {
                self.scene.stopped.set(true);
                return self.scene.note_error(&step, error);
            }
        };
        let mut shown: BTreeMap<KeyId, &[u8]> = BTreeMap::new();
        for (key, value) in &rows {
            let Some(id) = self.scene.keys.id(key) else {
                let what = format!("the key {} was never written", key.escape_ascii());
                return self.scene.violate(&step, what);
            };
            shown.insert(id, value);
        }
        let mut cuts = Vec::new();
        for shard in 0..usize::from(self.database.router.shards()) {
            match self.recovered_cut(shard, &shown) {
                Ok(cut) => cuts.push(cut),
                Err(what) => return self.scene.violate(&step, format!("recovery: {what}")),
            }
        }
        for (shard, &cut) in cuts.iter().enumerate() {
            self.scene.model.borrow_mut().rebase(shard, cut);
        }
        self.scene.figures.borrow_mut().crash_images += 1;
        *self.scene.cuts.borrow_mut() = Some(vec![0; cuts.len()]);
        self.get_all(&step).await;
        if !self.scene.stopped.get() && self.rng.coin() {
            self.verify_at_rest(&step).await;
        }
    }

    fn recovered_cut(&self, shard: usize, shown: &BTreeMap<KeyId, &[u8]>) -> Result<Cut, String> {
        let (keys, model) = (&self.scene.keys, self.scene.model.borrow());
        let here = shown.keys().copied();
        let here = here.filter(|&id| keys.shard(self.database.router, id) == shard);
        let all: BTreeSet<KeyId> = model.live_keys(shard).into_iter().chain(here).collect();
        let shown = |id| Shown::of(shown.get(&id).copied());
        let recovered = model.check_recovery(shard, model.durable(shard), all, shown)?;
        let mut figures = self.scene.figures.borrow_mut();
        figures.tails_lost += u64::from(recovered.lost > 0);
        figures.unanswered_kept += to_u64(recovered.unanswered_kept);
        Ok(recovered.cut)
    }

    /// Every row; in order, or it is a violation.
    async fn read_all(&mut self) -> Result<Vec<(Bytes, Bytes)>, Error> {
        use std::ops::Bound::Unbounded;
        let mut scanner = self.database.client.scan(KEYSPACE, Unbounded, Unbounded);
        let mut rows: Vec<(Bytes, Bytes)> = Vec::new();
        loop {
            let next = scanner.next().await;
            let Some(row) = next? else {
                return Ok(rows);
            };
            if rows.last().is_some_and(|last| last.0 >= row.0) {
                self.scene
                    .violate(&self.name, "the rows of a scan are not in order");
            }
            rows.push(row);
        }
    }

    /// Checks everything while nothing else is under way.
    async fn check_at_rest(&mut self) {
        use std::ops::Bound::Unbounded;
        let step = self.name.clone();
        self.scan_range(&step, &(Unbounded, Unbounded), Wanted::ALL)
            .await;
        self.get_all(&step).await;
        self.verify_at_rest(&step).await;
    }

    /// Takes the shards' figures.
    async fn note_stats(&self) {
        if let Ok(stats) = self.database.client.stats().await {
            let mut figures = self.scene.figures.borrow_mut();
            for shard in stats {
                figures.flushes += shard.flushes;
                figures.replayed += shard.replayed_records;
            }
        }
    }
}
