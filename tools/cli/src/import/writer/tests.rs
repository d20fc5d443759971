use std::cell::RefCell;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Waker};

use futures_channel::{mpsc, oneshot};
use futures_executor::block_on;
use lightning_db::Database;

use super::*;

/// A database whose writes end when a test says so.
#[derive(Clone, Default)]
struct Writes(Rc<RefCell<Vec<Option<End>>>>);

/// How a test ends one write.
type End = oneshot::Sender<Result<(), Error>>;

impl Writes {
    fn begin(&self) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        let (sender, receiver) = oneshot::channel();
        self.0.borrow_mut().push(Some(sender));
        async { receiver.await.unwrap() }
    }

    fn begun(&self) -> usize {
        self.0.borrow().len()
    }

    fn end(&self, index: usize, outcome: Result<(), Error>) {
        let sender = self.0.borrow_mut()[index].take().unwrap();
        sender.send(outcome).unwrap();
    }
}

/// A chunk of one row under each key.
fn chunk(keys: &[u64]) -> Reading {
    let mut batch = Batch::new();
    for key in keys {
        batch.put(format!("{key}"), "");
    }
    Reading::Chunk(Chunk {
        batch,
        key_hashes: keys.to_vec(),
        rows: keys.len() as u64,
        ..Chunk::default()
    })
}

/// Runs a writer on `readings`; `script` ends writes, and is called again until the writer ended.
fn run(readings: Vec<Reading>, mut script: impl FnMut(&Writes)) -> Ended {
    let (mut sender, receiver) = mpsc::channel(readings.len());
    for reading in readings {
        sender.try_send(reading).unwrap();
    }
    let writes = Writes::default();
    let mut progress = Progress::quiet("test");
    let begin = writes.clone();
    let mut ended = pin!(Writer::new(move |_| begin.begin(), &mut progress).run(receiver));
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(ended) = ended.as_mut().poll(&mut context) {
            return ended;
        }
        script(&writes);
    }
}

fn some_error() -> Error {
    block_on(Database::open("/dev/null/no-database")).unwrap_err()
}

#[test]
fn a_chunk_waits_for_the_one_under_way_with_the_same_key() {
    let readings = vec![
        chunk(&[1, 2]),
        chunk(&[3]),
        chunk(&[4, 1]),
        chunk(&[5]),
        Reading::End,
    ];
    let mut step = 0;
    let ended = run(readings, |writes| {
        step += 1;
        match step {
            1 => {
                assert_eq!(writes.begun(), 2, "the third shares a key with the first");
                writes.end(1, Ok(()));
            }
            2 => {
                assert_eq!(writes.begun(), 2, "the first is still under way");
                writes.end(0, Ok(()));
            }
            3 => {
                assert_eq!(writes.begun(), 4);
                writes.end(3, Ok(()));
                writes.end(2, Ok(()));
            }
            _ => panic!("everything has ended"),
        }
    });
    assert!(matches!(ended.cause, Cause::Reading(Some(Reading::End))));
    assert_eq!((ended.durable_rows, ended.unsure_rows), (6, 0));
}

#[test]
fn a_key_is_free_again_once_its_write_has_ended() {
    let mut step = 0;
    let readings = vec![chunk(&[1]), chunk(&[2]), chunk(&[1]), Reading::End];
    let ended = run(readings, |writes| {
        step += 1;
        match step {
            1 => writes.end(0, Ok(())),
            2 => {
                assert_eq!(writes.begun(), 3, "the second is another key's");
                writes.end(1, Ok(()));
                writes.end(2, Ok(()));
            }
            _ => panic!("everything has ended"),
        }
    });
    assert_eq!(ended.durable_rows, 3);
}

#[test]
fn the_number_of_chunks_under_way_is_bounded() {
    let count = 3 * IN_FLIGHT_MAX;
    let mut readings: Vec<_> = (0..count as u64).map(|key| chunk(&[key])).collect();
    readings.push(Reading::End);
    let mut done = 0;
    let ended = run(readings, |writes| {
        assert_eq!(writes.begun(), count.min(done + IN_FLIGHT_MAX));
        writes.end(done, Ok(()));
        done += 1;
    });
    assert_eq!((done, ended.durable_rows), (count, count as u64));
}

#[test]
fn long_values_under_way_are_bounded_but_one_always_goes() {
    let long = |key| match chunk(&[key]) {
        Reading::Chunk(chunk) => Reading::Chunk(Chunk {
            bytes: IN_FLIGHT_BYTES_MAX + 1,
            ..chunk
        }),
        other => other,
    };
    let mut done = 0;
    let ended = run(vec![long(1), long(2), long(3), Reading::End], |writes| {
        assert_eq!(writes.begun(), done + 1);
        writes.end(done, Ok(()));
        done += 1;
    });
    assert_eq!(ended.durable_rows, 3);
}

#[test]
fn after_a_failure_the_rows_in_front_are_durable_and_the_others_in_doubt() {
    let readings = vec![
        chunk(&[1, 2]),
        chunk(&[3]),
        chunk(&[4, 5, 6]),
        chunk(&[3, 7]),
        Reading::End,
    ];
    let mut step = 0;
    let ended = run(readings, |writes| {
        assert_eq!(writes.begun(), 3);
        step += 1;
        match step {
            1 => writes.end(1, Err(some_error())),
            2 => writes.end(0, Ok(())),
            3 => writes.end(2, Ok(())),
            _ => panic!("everything has ended"),
        }
    });
    assert!(matches!(ended.cause, Cause::Write(_)));
    assert_eq!((ended.durable_rows, ended.unsure_rows), (2, 4));
}

#[test]
fn rows_in_front_of_a_bad_one_are_durable_before_it_is_told() {
    let bad = super::super::row::RowFault::EmptyKey.on(9);
    let mut done = 0;
    let ended = run(
        vec![chunk(&[1]), chunk(&[2]), Reading::Bad(bad)],
        |writes| {
            writes.end(done, Ok(()));
            done += 1;
        },
    );
    assert!(matches!(ended.cause, Cause::Reading(Some(Reading::Bad(_)))));
    assert_eq!((done, ended.durable_rows), (2, 2));
}
