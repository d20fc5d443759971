//! Many cases, each in a world of its own, on several threads.
//!
//! A case depends on its number alone, so the threads share nothing and their number changes
//! nothing but the time that it takes.

use std::ops::AddAssign;
use std::thread;

use lightning_io::to_u64;

/// Runs the cases `0..count` on so many threads and adds up what they found.
///
/// Each thread begins with what `begin` makes, and gives its figures with `end`.
pub(crate) fn run<W, F: Default + Send + for<'a> AddAssign<&'a F>>(
    jobs: usize,
    count: u64,
    begin: impl Fn() -> W + Sync,
    case: impl Fn(&mut W, u64, &mut F) + Sync,
) -> F {
    let jobs = jobs.max(1);
    let part = |job: usize| {
        let (mut workplace, mut figures) = (begin(), F::default());
        // Neighbours cost alike, so that taking turns shares the work evenly.
        for number in (to_u64(job)..count).step_by(jobs) {
            case(&mut workplace, number, &mut figures);
        }
        figures
    };
    let mut figures = F::default();
    thread::scope(|scope| {
        let part = &part;
        let others: Vec<_> = (1..jobs)
            .map(|job| scope.spawn(move || part(job)))
            .collect();
        figures += &part(0);
        for other in others {
            // Violations are figures; a panic here is a bug of the sweep itself.
            figures += &other.join().expect("a sweep does not panic");
        }
    });
    figures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_is_run_once_on_any_number_of_threads() {
        for jobs in [0, 1, 3, 50] {
            let sum: u64 = run(jobs, 40, || (), |(), number, sum| *sum += 1 << number);
            assert_eq!(sum, (1 << 40) - 1, "{jobs} jobs");
        }
    }
}
