//! A way into a shard that tells the model what is written, in which order, and what is answered.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;

use futures_channel::oneshot;
use lightning_io::sim::{SimEnv, SimSubmitter};
use lightning_io::{Env, SendError, Submit, TaskClass};
use lightning_shards::{Decide, Reply, Request, Timestamp, Updated};

use crate::answer::{Answer, Watched};
use crate::model::{Model, Ticket};
use crate::taking::watched;

/// A submitter under observation.
#[derive(Clone)]
pub(crate) struct Spy {
    inner: SimSubmitter<Request>,
    shard: usize,
    model: Rc<RefCell<Model>>,
    env: SimEnv,
    /// Whether the caller of the next write is going to leave: then nobody hears its answer.
    unheard: Rc<Cell<bool>>,
}

impl std::fmt::Debug for Spy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Spy(shard {})", self.shard)
    }
}

impl Spy {
    /// Watches what goes to one shard.
    pub(crate) fn new(
        inner: SimSubmitter<Request>,
        shard: usize,
        model: &Rc<RefCell<Model>>,
        env: &SimEnv,
        unheard: &Rc<Cell<bool>>,
    ) -> Self {
        Self {
            inner,
            shard,
            model: Rc::clone(model),
            env: env.clone(),
            unheard: Rc::clone(unheard),
        }
    }
}

impl Submit<Request> for Spy {
    fn try_submit(&self, request: Request) -> Result<(), SendError<Request>> {
        let (ops, durability, reply) = match request {
            Request::Write {
                ops,
                durability,
                reply,
            } => (ops, durability, reply),
            Request::Update {
                key,
                decide,
                durability,
                reply,
            } => {
                let ticket = self.model.borrow_mut().next_ticket();
                let watch = |decide: Decide, reply| Request::Update {
                    key,
                    decide: watched(decide, self.shard, ticket),
                    durability,
                    reply,
                };
                return self.submit_update(ticket, watch, decide, reply);
            }
            request => return self.inner.try_submit(request),
        };
        if self.unheard.get() {
            let request = Request::Write {
                ops,
                durability,
                reply,
            };
            self.inner.try_submit(request)?;
            let now = self.env.now();
            self.model.borrow_mut().submitted(self.shard, None, now);
            return Ok(());
        }
        let (sender, answer) = oneshot::channel();
        let watched = Request::Write {
            ops,
            durability,
            reply: sender,
        };
        if let Err(refused) = self.inner.try_submit(watched) {
            return Err(with_reply(refused, reply));
        }
        let answer = Rc::new(RefCell::new(Watched::new(answer)));
        let (model, shard, env) = (Rc::clone(&self.model), self.shard, self.env.clone());
        let looked_at: Rc<RefCell<dyn Answer>> = Rc::<RefCell<Watched<Timestamp>>>::clone(&answer);
        let part = model
            .borrow_mut()
            .submitted(shard, Some(looked_at), env.now());
        let watch = async move {
            let heard = poll_fn(|cx| answer.borrow_mut().poll(cx)).await;
            model.borrow_mut().answered(shard, part, &heard, env.now());
            // The caller may have left.
            drop(reply.send(heard));
        };
        drop(self.env.spawn(TaskClass::Foreground, watch));
        Ok(())
    }
}

impl Spy {
    fn submit_update(
        &self,
        ticket: Ticket,
        watch: impl FnOnce(Decide, Reply<Updated>) -> Request,
        decide: Decide,
        reply: Reply<Updated>,
    ) -> Result<(), SendError<Request>> {
        let (sender, answer) = oneshot::channel();
        // A refused one is given back with another reply: the client has no use for it.
        self.inner.try_submit(watch(decide, sender))?;
        let answer = Rc::new(RefCell::new(Watched::new(answer)));
        let looked_at: Rc<RefCell<dyn Answer>> = Rc::<RefCell<Watched<Updated>>>::clone(&answer);
        let (model, env) = (Rc::clone(&self.model), self.env.clone());
        model
            .borrow_mut()
            .update_submitted(self.shard, ticket, looked_at);
        let hear = async move {
            let heard = poll_fn(|cx| answer.borrow_mut().poll(cx)).await;
            model
                .borrow_mut()
                .update_answered(ticket, &heard, env.now());
            // The caller may have left.
            drop(reply.send(heard));
        };
        drop(self.env.spawn(TaskClass::Foreground, hear));
        Ok(())
    }
}

/// Gives a refused write its own reply back.
fn with_reply(
    refused: SendError<Request>,
    own: lightning_shards::Reply<lightning_shards::Timestamp>,
) -> SendError<Request> {
    let give_back = |request| match request {
        Request::Write {
            ops, durability, ..
        } => Request::Write {
            ops,
            durability,
            reply: own,
        },
        other => other,
    };
    match refused {
        SendError::Full(request) => SendError::Full(give_back(request)),
        SendError::Closed(request) => SendError::Closed(give_back(request)),
    }
}
