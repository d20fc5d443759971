use std::sync::mpsc;
use std::task::Waker;
use std::thread;
use std::time::Duration;
#[expect(clippy::disallowed_types, reason = "bounds the time of a test")]
use std::time::Instant;

use futures_channel::oneshot;

use super::*;

fn small() -> MeshConfig {
    MeshConfig {
        ring_slots: 4,
        inbox_slots: 4,
    }
}

fn assert_send<T: Send>() {}
fn assert_sync<T: Sync>() {}

#[test]
fn handles_can_go_where_they_are_needed() {
    assert_send::<Endpoint<u64>>();
    assert_send::<Submitter<u64>>();
    assert_sync::<Submitter<u64>>();
}

#[test]
fn every_shard_reaches_every_shard_and_itself() {
    let (endpoints, submitters) = mesh::<(usize, usize)>(3, small());
    for endpoint in &endpoints {
        assert_eq!(endpoint.peers(), 3);
        for to in 0..3 {
            endpoint.send(to, (endpoint.index(), to)).unwrap();
        }
    }
    for (to, submitter) in submitters.iter().enumerate() {
        submitter.try_submit((99, to)).unwrap();
    }
    for (to, endpoint) in endpoints.iter().enumerate() {
        let mut got = Vec::new();
        assert_eq!(endpoint.try_recv(&mut got, 64), 4);
        got.sort_unstable();
        assert_eq!(got, [(0, to), (1, to), (2, to), (99, to)]);
    }
}

#[test]
fn a_busy_sender_does_not_shut_out_the_others() {
    let config = MeshConfig {
        ring_slots: 64,
        inbox_slots: 64,
    };
    let (endpoints, submitters) = mesh::<char>(2, config);
    for _ in 0..64 {
        submitters[0].try_submit('i').unwrap();
        endpoints[0].send(0, 's').unwrap();
    }
    endpoints[1].send(0, 'p').unwrap();
    for _ in 0..3 {
        let mut got = Vec::new();
        assert_eq!(endpoints[0].try_recv(&mut got, 12), 12);
        let own = got.iter().filter(|&&from| from == 's').count();
        let inbox = got.iter().filter(|&&from| from == 'i').count();
        assert!(own >= 4 && inbox >= 4, "{got:?}");
    }
    // A limit below the number of senders reaches each of them in turn.
    endpoints[1].send(0, 'p').unwrap();
    let mut got = Vec::new();
    for _ in 0..3 {
        assert_eq!(endpoints[0].try_recv(&mut got, 1), 1);
    }
    got.sort_unstable();
    assert_eq!(got, ['i', 'p', 's']);
}

#[test]
fn a_full_queue_hands_the_message_back() {
    let (endpoints, submitters) = mesh::<u8>(1, small());
    for message in 0..4 {
        endpoints[0].send(0, message).unwrap();
        submitters[0].try_submit(message).unwrap();
    }
    assert!(matches!(endpoints[0].send(0, 9), Err(SendError::Full(9))));
    assert!(matches!(
        submitters[0].try_submit(9),
        Err(SendError::Full(9))
    ));
    let mut got = Vec::new();
    assert_eq!(endpoints[0].try_recv(&mut got, 3), 3);
    assert_eq!(endpoints[0].try_recv(&mut got, 99), 5);
    assert_eq!(endpoints[0].try_recv(&mut got, 99), 0);
}

#[test]
fn a_dropped_endpoint_drops_what_waits_and_refuses_the_rest() {
    let (mut endpoints, submitters) = mesh::<oneshot::Sender<()>>(2, small());
    let (from_peer, mut reply_to_peer) = oneshot::channel();
    let (from_thread, mut reply_to_thread) = oneshot::channel();
    endpoints[1].send(0, from_peer).unwrap();
    submitters[0].try_submit(from_thread).unwrap();
    drop(endpoints.remove(0));
    assert!(reply_to_peer.try_recv().is_err());
    assert!(reply_to_thread.try_recv().is_err());
    let (late, _reply) = oneshot::channel();
    let back = endpoints[0].send(0, late).unwrap_err();
    assert!(matches!(back, SendError::Closed(_)));
    let back = submitters[0].try_submit(back.into_inner()).unwrap_err();
    assert!(matches!(back, SendError::Closed(_)));
    assert!(submitters[0].is_closed() && !submitters[1].is_closed());
}

#[test]
fn a_closed_endpoint_receives_nothing_and_does_not_park() {
    let (endpoints, submitters) = mesh::<u8>(1, small());
    submitters[0].try_submit(1).unwrap();
    endpoints[0].close();
    assert_eq!(endpoints[0].try_recv(&mut Vec::new(), 8), 0);
    let cx = Context::from_waker(Waker::noop());
    assert!(endpoints[0].poll_recv(&cx).is_ready());
}

/// The message is appended while the receiver ends: whichever is first, its reply sender goes.
#[test]
fn a_message_that_crosses_the_end_of_its_receiver_is_dropped() {
    for round in 0..2_000 {
        let (mut endpoints, submitters) = mesh::<oneshot::Sender<()>>(2, small());
        let receiver = endpoints.remove(0);
        let sender = endpoints.remove(0);
        thread::scope(|scope| {
            let submitter = &submitters[0];
            scope.spawn(move || {
                for _ in 0..round % 50 {
                    std::hint::spin_loop();
                }
                drop(receiver);
            });
            let submit = scope.spawn(move || answered(|reply| submitter.try_submit(reply)));
            answered(|reply| sender.send(0, reply));
            submit.join().unwrap();
        });
    }
}

/// Sends until the receiver is gone; every reply must have been cancelled by then.
fn answered(send: impl Fn(oneshot::Sender<()>) -> Result<(), SendError<oneshot::Sender<()>>>) {
    let mut replies = Vec::new();
    loop {
        let (sender, reply) = oneshot::channel();
        match send(sender) {
            Ok(()) => replies.push(reply),
            Err(SendError::Full(_)) => thread::yield_now(),
            Err(SendError::Closed(_)) => break,
        }
    }
    // The receiver may still be clearing: a reply that never comes hangs the test.
    for reply in replies {
        assert!(futures_executor::block_on(reply).is_err());
    }
}

#[test]
#[expect(clippy::disallowed_types, reason = "bounds the time of the test")]
fn a_parked_receiver_is_woken_by_every_message() {
    let (mut endpoints, submitters) = mesh::<Option<mpsc::Sender<u64>>>(1, small());
    let endpoint = endpoints.remove(0);
    let receiver = thread::Builder::new().spawn(move || {
        futures_executor::block_on(async {
            let mut got = Vec::new();
            let mut answers = 0;
            loop {
                std::future::poll_fn(|cx| endpoint.poll_recv(cx)).await;
                endpoint.try_recv(&mut got, 8);
                for reply in got.drain(..) {
                    let Some(reply) = reply else { return };
                    reply.send(answers).unwrap();
                    answers += 1;
                }
            }
        });
    });
    let receiver = receiver.unwrap();
    let (sender, replies) = mpsc::channel();
    let mut pause = 1_u64;
    let start = Instant::now();
    for round in 0..20_000 {
        if start.elapsed() > Duration::from_secs(2) {
            // A machine with other work to do gets fewer rounds.
            break;
        }
        // The pauses make the message meet the receiver at every step of its parking.
        pause = pause
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        for _ in 0..pause >> 56 {
            std::hint::spin_loop();
        }
        submitters[0].try_submit(Some(sender.clone())).unwrap();
        assert_eq!(replies.recv().unwrap(), round);
    }
    submitters[0].try_submit(None).unwrap();
    receiver.join().unwrap();
}
