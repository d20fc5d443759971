//! Panics of one thread, recorded: one that the engine catches itself is a bug all the same.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Once;

thread_local! {
    /// The panics since the recording began; absent while nobody records.
    static RECORDED: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

static HOOK: Once = Once::new();

/// Records until it is dropped.
#[derive(Debug)]
pub(crate) struct Recording(PhantomData<Rc<()>>);

/// Starts to record the panics of this thread, in place of printing them.
pub(crate) fn record() -> Recording {
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let recorded = RECORDED.with_borrow_mut(|recorded| {
                let list = recorded.as_mut()?;
                list.push(info.to_string().replace('\n', " "));
                Some(())
            });
            if recorded.is_none() {
                before(info);
            }
        }));
    });
    RECORDED.set(Some(Vec::new()));
    Recording(PhantomData)
}

impl Recording {
    /// The panics so far.
    #[expect(clippy::unused_self, reason = "panics are recorded while this lives")]
    pub(crate) fn take(&self) -> Vec<String> {
        RECORDED
            .with_borrow_mut(|recorded| recorded.as_mut().map(std::mem::take).unwrap_or_default())
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        RECORDED.set(None);
    }
}
