//! One run: a database from its creation through several lives, each ended in its own way.
//!
//! # Algorithm
//! A life is a world on the disk that the one before left: open, check everything, let clients
//! work, end. It ends at a point that the seed chose (a power failure or a killed process), or
//! well. After a power failure what the disk holds is fixed, so it is recovered in worlds on the
//! side: with other seeds, and cut off again while it recovers. All of them must come to the same
//! content.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use lightning_io::sim::{CrashPoint, CrashReport, Fault, Image, Pending, Rng, World};
use lightning_io::{BLOCK_BYTES, IoOp, to_u64};
use lightning_shards::{Error, OpenMode};

use crate::database::{Opening, Site};
use crate::explain::{Evidence, Inherited};
use crate::keys::Keys;
use crate::model::Model;
use crate::panics;
use crate::plan::{Options, Plan, Purpose, log_uniform};
use crate::report::{Figures, Hazard, Violation};
use crate::session::{Aim, Ended, Session};
use crate::sweep::is_sound;
use crate::workload::{Phase, Scene};

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
    life.note_hazards(&mut figures);
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

struct Life {
    plan: Plan,
    options: Options,
    keys: Rc<Keys>,
    model: Rc<RefCell<Model>>,
    figures: Rc<RefCell<Figures>>,
    next_write: Rc<Cell<u64>>,
    course: Rng,
    worlds: Rng,
    space: Rng,
    clients: u64,
    generation: usize,

    image: Option<Image>,
    /// Whether the image is what a power failure left.
    after_crash: bool,
    /// Whether anything was ever acknowledged, so that the database has to be there.
    exists: bool,
    /// Length of the ledger of damages when the last database was opened whose content was checked,
    /// and when the last one was that a power failure had left. What was lost before is accounted
    /// for.
    checked: usize,
    checked_after_crash: usize,

    /// The ledger when the current world began.
    inherited: Inherited,

    fired: BTreeMap<Fault, u64>,
    /// Crashes so far, in a row, that found the database being opened.
    depth: usize,
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
            space: Purpose::Space.stream(seed),
            clients: 0,
            generation: 0,
            image: None,
            after_crash: false,
            exists: false,
            checked: 0,
            checked_after_crash: 0,
            inherited: Inherited::default(),
            fired: BTreeMap::new(),
            depth: 0,
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

    /// Enters what could go wrong in this run, and what did.
    fn note_hazards(&self, figures: &mut Figures) {
        let struck = [
            (Hazard::TornWrite, self.plan.tears(), figures.writes_torn),
            (Hazard::LostWrite, self.plan.loses(), figures.writes_lost),
            (Hazard::LostLength, self.plan.loses(), figures.lengths_lost),
            (Hazard::LostEntry, self.plan.loses(), figures.entries_lost),
            (Hazard::NestedCrash, true, figures.nested_crashes),
            (
                Hazard::DroppedFuture,
                self.plan.habits.dropped > 0,
                figures.dropped,
            ),
        ];
        for (hazard, on, strikes) in struck {
            if on {
                figures.note_hazard(hazard, strikes);
            }
        }
        for fault in self.plan.swarm.iter() {
            let strikes = self.fired.get(&fault).copied().unwrap_or(0);
            figures.note_hazard(Hazard::Fault(fault), strikes);
        }
    }

    /// One world on the image, and what its end leaves as the next image.
    fn live(&mut self, aim: Aim, point: Option<CrashPoint>, faulty: bool) -> Step {
        let world = self.world(faulty);
        let (ended, scene) = self.run_world(&world, aim, point, faulty)?;
        self.model.borrow_mut().take_last_answers(world.now());
        let evidence = self.settle(&world, &scene)?;
        self.last_ios = world.io_count().max(16);
        // Where the work is done the power may still fail.
        let power_fails = match &ended {
            Ended::Cut(_) => self.course.below(8) > 0,
            Ended::Done { closed } => !closed || self.course.coin(),
            Ended::NotOpened(_) => self.course.coin(),
        };
        if let Ended::NotOpened(error) = &ended {
            self.judge_refusal(&evidence, error, faulty)?;
        }
        self.depth = 0;
        if power_fails {
            let disk = world.shutdown();
            self.try_other_crashes(&disk)?;
            self.crash(disk);
        } else {
            self.image = Some(world.shutdown());
            self.after_crash = false;
        }
        let figures = Rc::clone(&self.figures);
        match (&ended, power_fails) {
            (Ended::Done { closed: true }, _) => figures.borrow_mut().closes += 1,
            (_, false) => figures.borrow_mut().kills += 1,
            _ => {}
        }
        if power_fails {
            self.try_recoveries()?;
        }
        Ok(())
    }

    /// The power fails; what the disk holds then is the next image.
    fn crash(&mut self, mut image: Image) {
        let report = image.crash(&mut self.course, &self.plan.crash);
        self.count_crash(&report);
        self.after_crash = true;
        self.image = Some(image);
    }

    fn count_crash(&self, report: &CrashReport) {
        let mut figures = self.figures.borrow_mut();
        figures.crashes += 1;
        figures.writes_torn += report.writes_torn;
        figures.writes_lost += report.writes_lost;
        figures.lengths_lost += report.lengths_lost;
        figures.entries_lost += report.entries_lost;
        // With one shard there is nothing that could be cut at another place.
        if report.shards_cut > 1 {
            figures.cuts_combined += 1;
            figures.tails_cut += report.shards_cut;
        }
    }

    fn world(&mut self, faulty: bool) -> World {
        let image = self.image.as_ref();
        let config = self
            .plan
            .world(&self.options, faulty, image, &mut self.space);
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
        let mut config = Plan::shard_config(&mut self.course);
        if self.course.below(8) > 0 {
            // Another one needs space at the opening, and there would be no shortage later.
            config.reserve_bytes = self.plan.reserve_bytes;
        }
        Opening {
            mode,
            name_shards: !self.exists || self.course.coin(),
            config,
        }
    }

    fn scene(&self, faulty: bool, space_returns_at: Option<Duration>) -> Rc<Scene> {
        Rc::new(Scene {
            keys: Rc::clone(&self.keys),
            model: Rc::clone(&self.model),
            figures: Rc::clone(&self.figures),
            habits: self.plan.habits,
            faulty: faulty && !self.plan.swarm.is_empty(),
            space_returns_at,
            after_crash: self.after_crash,
            phase: Cell::default(),
            violation: RefCell::default(),
            recovered: RefCell::default(),
            claims: RefCell::default(),
            errors: RefCell::default(),
            next_write: Rc::clone(&self.next_write),
            stopped: Cell::new(false),
            poisoned: Cell::new(false),
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
        self.inherited = Inherited::note(world);
        let scene = self.scene(faulty, world.space_returns_at());
        let opening = self.opening();
        let interval = opening.config.relaxed_interval;
        let session = Session {
            scene: Rc::clone(&scene),
            world,
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
    fn settle(&mut self, world: &World, scene: &Scene) -> Step<Evidence> {
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
        let evidence = Evidence::gather(world, &self.inherited);
        let errors = std::mem::take(&mut *scene.errors.borrow_mut());
        self.figures.borrow_mut().errors += to_u64(errors.len());
        for (step, error) in errors {
            if let Some(why) = evidence.objection(&error) {
                let what = format!("unexpected error: {error} ({why}{evidence})");
                return Err(End::Violation(step, what));
            }
        }
        self.judge_claims(&evidence, scene)?;
        Ok(evidence)
    }

    /// Whether damage explains what a recovery lost; from here on that is accounted for.
    fn judge_claims(&mut self, evidence: &Evidence, scene: &Scene) -> Step {
        for claim in scene.claims.borrow_mut().drain(..) {
            let damaged = evidence.log_records_damaged(claim.shard, self.checked);
            let undecidable = !claim.from_tree && claim.records <= damaged;
            if !undecidable && !evidence.has_lied_about(claim.shard, self.checked_after_crash) {
                let what = format!(
                    "recovery: {}; {} records must be damaged for that, and {damaged} are{evidence}",
                    claim.what, claim.records
                );
                return self.violation(Phase::Checking, what);
            }
            self.figures.borrow_mut().undecidable += u64::from(undecidable);
        }
        if scene.recovered.borrow().is_some() {
            self.checked = self.inherited.len();
            if scene.after_crash {
                self.checked_after_crash = self.inherited.len();
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
    fn judge_refusal(&mut self, evidence: &Evidence, error: &Error, faulty: bool) -> Step {
        self.figures.borrow_mut().open_errors += 1;
        if let Some(why) = evidence.objection(error) {
            let what = format!("could not be opened: {error} ({why}{evidence})");
            return self.violation(Phase::Opening, what);
        }
        if faulty {
            return Ok(());
        }
        if evidence.has_lasting() {
            return Err(End::Damaged);
        }
        let what = format!("could not be opened without faults: {error}");
        self.violation(Phase::Opening, what)
    }

    /// The power could have left something else of the same disk: a few other crashes of the moment
    /// are recovered from and checked on the side.
    fn try_other_crashes(&mut self, disk: &Image) -> Step {
        if !self.exists {
            return Ok(());
        }
        // Where nothing is pending, every crash leaves the same.
        let count = match disk.pending_count() {
            0 => 0,
            _ => 1 + self.course.below(4),
        };
        for _ in 0..count {
            let mut image = disk.clone();
            let report = image.crash(&mut self.course, &self.plan.crash);
            self.count_crash(&report);
            let (model, checked) = (self.model.borrow().clone(), self.checked);
            let (checked_after_crash, after_crash) = (self.checked_after_crash, self.after_crash);
            self.after_crash = true;
            let recovered = self.recover(&image);
            *self.model.borrow_mut() = model;
            self.checked = checked;
            self.checked_after_crash = checked_after_crash;
            self.after_crash = after_crash;
            match recovered {
                // This one would be given up; the one that is lived on with need not be.
                Ok(_) | Err(End::Damaged) => {}
                Err(violation) => return Err(violation),
            }
        }
        Ok(())
    }

    /// Recovers the image that a power failure left, on the side, in several ways.
    fn try_recoveries(&mut self) -> Step {
        let Some(image) = self.image.clone() else {
            return Ok(());
        };
        if self.exists && self.course.below(3) > 0 {
            // What the disk holds is fixed now: no later recovery may come to anything else.
            let checked = self.recover(&image)?;
            if checked && self.course.below(3) == 0 {
                self.figures.borrow_mut().recoveries_repeated += 1;
                self.recover(&image)?;
            }
        }
        if self.course.coin() {
            self.crash_while_recovering(image)?;
        }
        Ok(())
    }

    /// Opens a copy of the image without faults and checks all that it holds.
    fn recover(&mut self, image: &Image) -> Step<bool> {
        self.image = Some(image.clone());
        let world = self.world(false);
        let (ended, scene) = self.run_world(&world, Aim::Check, None, false)?;
        let evidence = self.settle(&world, &scene)?;
        self.image = Some(image.clone());
        if let Ended::NotOpened(error) = ended {
            self.judge_refusal(&evidence, &error, false)?;
        }
        let checked = scene.recovered.borrow().is_some();
        Ok(checked)
    }

    /// Crashes while it recovers, up to three times in a row; the last image is lived on with.
    fn crash_while_recovering(&mut self, image: Image) -> Step {
        self.image = Some(image);
        let depth = self.course.pick(&[1, 3, 3, 3]);
        for _ in 0..depth {
            let world = self.world(false);
            let point = self.point_in_recovery();
            let (ended, scene) = self.run_world(&world, Aim::Check, Some(point), false)?;
            let evidence = self.settle(&world, &scene)?;
            if let Ended::NotOpened(error) = &ended {
                self.judge_refusal(&evidence, error, false)?;
            }
            self.depth = match ended {
                Ended::Cut(Phase::Opening) => self.depth + 1,
                _ => 0,
            };
            self.note_depth();
            self.crash(world.shutdown());
        }
        Ok(())
    }

    /// Mostly anywhere, sometimes where there is something that the power can take.
    fn point_in_recovery(&mut self) -> CrashPoint {
        let rng = &mut self.course;
        match rng.below(8) {
            0..3 => CrashPoint::AfterIos(1 + rng.below(self.last_ios.min(400))),
            3..5 => CrashPoint::AfterIos(log_uniform(rng, 6)),
            5 => CrashPoint::AfterPending(Pending::Length, 1 + rng.below(4)),
            6 => CrashPoint::DuringWrite(rng.below(16)),
            _ => CrashPoint::AfterPending(Pending::Write, 1 + rng.below(8)),
        }
    }

    fn note_depth(&self) {
        let mut figures = self.figures.borrow_mut();
        figures.nested_crashes += u64::from(self.depth > 0);
        figures.nested_twice += u64::from(self.depth == 2);
        figures.nested_thrice += u64::from(self.depth == 3);
    }

    /// Counts the segments that were taken into use again, from the numbers in names and headers.
    fn count_segments(&self) {
        // What rot made of a number says nothing.
        let Some(image) = self.image.as_ref().filter(|i| i.damage().is_empty()) else {
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
            // What a crash tore has no number.
            let header = image.read_range(&path, 0, BLOCK_BYTES).unwrap_or_default();
            let header = Some(header).filter(|header| is_sound(header, SEGMENT_MAGIC));
            let id = header
                .as_deref()
                .and_then(|header| header[SEGMENT_ID_AT..].first_chunk::<8>());
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

/// What a segment's header begins with, and where it has its number; see the log's format.
const SEGMENT_MAGIC: [u8; 8] = *b"LDBWALSG";
const SEGMENT_ID_AT: usize = 40;
