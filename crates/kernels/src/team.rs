//! The threads of the hot path: a fixed team that splits one job at a time, spins for a moment, then parks.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle, Thread};

/// How often a waiting thread looks before it parks: some tens of microseconds, longer than the pauses inside a token.
const SPINS: u32 = 20_000;

/// A job: called with each item number once.
type Job<'a> = dyn Fn(usize) + Sync + 'a;

/// What the members share.
struct Shared {
    /// Counts the jobs; a new value tells the members that `job` is theirs to run.
    epoch: AtomicU64,
    /// The current job; null while there is none.
    job: Mutex<Option<JobRef>>,
    /// Items handed out so far.
    next: AtomicUsize,
    /// Members that have not finished the current job.
    busy: AtomicUsize,
    closing: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

#[derive(Clone, Copy)]
struct JobRef {
    job: *const Job<'static>,
    items: usize,
}

// SAFETY: the job is Sync, and `Team::run` does not return before every member is done with it.
unsafe impl Send for JobRef {}

/// Threads that work on one job at a time. Items are handed out in ascending order to whoever is free.
pub struct Team {
    shared: Arc<Shared>,
    members: Vec<JoinHandle<()>>,
    threads: Vec<Thread>,
}

impl Team {
    /// A team of `size` threads, the caller of [`Team::run`] included.
    pub fn new(size: usize) -> Self {
        let shared = Arc::new(Shared {
            epoch: AtomicU64::new(0),
            job: Mutex::new(None),
            next: AtomicUsize::new(0),
            busy: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
            panic: Mutex::new(None),
        });
        let mut members = Vec::new();
        for i in 1..size {
            let shared = shared.clone();
            let builder = thread::Builder::new().name(format!("edgeling-{i}"));
            // With fewer threads than asked for the same work takes longer.
            let Ok(member) = builder.spawn(move || shared.serve()) else { break };
            members.push(member);
        }
        let threads = members.iter().map(|m| m.thread().clone()).collect();
        Self { shared, members, threads }
    }

    /// Threads of the team, the caller included.
    pub fn size(&self) -> usize {
        self.members.len() + 1
    }

    /// Calls `job` with every number below `items`, on all threads, and returns when all are done.
    ///
    /// # Panics
    /// If the job panics.
    pub fn run(&mut self, items: usize, job: &(dyn Fn(usize) + Sync)) {
        if items <= 1 || self.members.is_empty() {
            (0..items).for_each(job);
            return;
        }
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes; the members drop the job before `busy` is zero, which is awaited below.
        let job_ref = JobRef { job: unsafe { std::mem::transmute::<*const Job<'_>, *const Job<'static>>(job) }, items };
        *lock(&shared.job) = Some(job_ref);
        shared.next.store(0, Ordering::Relaxed);
        shared.busy.store(self.members.len(), Ordering::Relaxed);
        shared.epoch.fetch_add(1, Ordering::Release);
        for thread in &self.threads {
            thread.unpark();
        }
        shared.work(job_ref);
        let mut spins = 0u32;
        while shared.busy.load(Ordering::Acquire) > 0 {
            spins += 1;
            if spins < SPINS { std::hint::spin_loop() } else { thread::yield_now() }
        }
        let panic = lock(&shared.panic).take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Release);
        for thread in &self.threads {
            thread.unpark();
        }
        for member in self.members.drain(..) {
            // A member catches the panics of jobs and has none of its own.
            let _ = member.join();
        }
    }
}

impl Shared {
    /// A member's life: wait for a job, help with it, say so.
    fn serve(&self) {
        let mut seen = 0;
        while self.wait(seen) {
            seen += 1;
            let job = *lock(&self.job);
            if let Some(job) = job {
                self.work(job);
            }
            self.busy.fetch_sub(1, Ordering::Release);
        }
    }

    /// Waits until job number `seen + 1` is there; false when the team closes.
    fn wait(&self, seen: u64) -> bool {
        let mut spins = 0u32;
        loop {
            if self.epoch.load(Ordering::Acquire) > seen {
                return true;
            }
            if self.closing.load(Ordering::Acquire) {
                return false;
            }
            spins += 1;
            if spins < SPINS { std::hint::spin_loop() } else { thread::park() }
        }
    }

    /// Takes items until none is left. A panic ends the job for everyone and is kept for the caller.
    fn work(&self, job: JobRef) {
        // SAFETY: the job lives until `busy` is zero, which needs this thread to be done.
        let call = unsafe { &*job.job };
        let result = catch_unwind(AssertUnwindSafe(|| {
            loop {
                let item = self.next.fetch_add(1, Ordering::Relaxed);
                if item >= job.items {
                    return;
                }
                call(item);
            }
        }));
        if let Err(panic) = result {
            self.next.store(job.items, Ordering::Relaxed);
            *lock(&self.panic) = Some(panic);
        }
    }
}

/// Locks a mutex that no thread panics under.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_runs_once() {
        for size in [1, 2, 3] {
            let mut team = Team::new(size);
            for items in [0, 1, 2, 1000] {
                let counts: Vec<AtomicUsize> = (0..items).map(|_| AtomicUsize::new(0)).collect();
                team.run(items, &|i| {
                    counts[i].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_team_goes_on() {
        let mut team = Team::new(2);
        let caught = catch_unwind(AssertUnwindSafe(|| team.run(100, &|i| assert!(i != 57, "item {i}"))));
        assert!(caught.is_err());
        let done = AtomicUsize::new(0);
        team.run(100, &|_| {
            done.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(done.load(Ordering::Relaxed), 100);
    }
}
