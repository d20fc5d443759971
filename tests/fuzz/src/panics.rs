//! Panics of one thread, recorded: one that the engine catches itself is a crash all the same.

use std::cell::RefCell;
use std::sync::Once;

thread_local! {
    /// The panics since the recording began; absent while this thread does not record.
    static RECORDED: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

static HOOK: Once = Once::new();

/// Runs `body` and gives the panics in it, caught or not, in place of printing them.
pub(crate) fn recorded<T>(body: impl FnOnce() -> T) -> (Option<T>, Vec<String>) {
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let is_recorded = RECORDED.with_borrow_mut(|recorded| {
                let list = recorded.as_mut()?;
                list.push(info.to_string().replace('\n', " "));
                Some(())
            });
            if is_recorded.is_none() {
                before(info);
            }
        }));
    });
    RECORDED.set(Some(Vec::new()));
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
    let panics = RECORDED.take().unwrap_or_default();
    (outcome.ok(), panics)
}
