//! The threads of the hot path: a fixed team that splits one job at a time, spins for a moment, then parks.
//!
//! A member joins a job while items are left; the caller waits only for those that joined. So a member that the system
//! keeps from running holds nobody up, and the others take its items.

use std::any::Any;
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle, Thread};

use crate::simd::prefetch;

/// How often a waiting thread looks before it parks: some tens of microseconds, longer than the pauses inside a token.
const SPINS: u32 = 20_000;

/// Bytes that a waiting thread fetches of what it will read: less than half of a second-level cache.
const FETCHED: usize = 128 << 10;
/// Bytes that it fetches between two looks.
const FETCHED_AT_ONCE: usize = 128;

/// One joined member in [`Shared::state`].
const JOINED: u64 = 1;
/// Bits of [`Shared::state`] that count the joined members.
const COUNT: u64 = 0xFFFF;
/// Whether the job takes no more members.
const CLOSED: u64 = 1 << 16;
/// One job in [`Shared::state`]: the bits above count the jobs.
const JOB: u64 = 1 << 17;

/// A job: called with each item number once.
type Call<'a> = dyn Fn(usize) + Sync + 'a;

#[derive(Clone, Copy)]
struct Job {
    call: *const Call<'static>,
    items: usize,
}

/// What the members share.
struct Shared {
    /// The job's number, whether it is closed, and how many members have joined it.
    state: AtomicU64,
    /// Written by the caller while the state is closed with no member joined; read by members that joined.
    job: UnsafeCell<Option<Job>>,
    /// Items handed out so far.
    next: AtomicUsize,
    /// What item 0 of a coming job reads first, and the bytes from one item's to the next one's.
    ahead: AtomicPtr<u8>,
    ahead_stride: AtomicUsize,
    leaving: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `job` is guarded by `state` as its comment says, and the call behind it is Sync.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

/// Threads that work on one job at a time. Items are handed out in ascending order to whoever is free.
pub struct Team {
    shared: Arc<Shared>,
    members: Vec<JoinHandle<()>>,
    threads: Vec<Thread>,
    /// The caller's.
    wait: Wait,
}

impl Team {
    /// A team of `size` threads, the caller of [`Team::run`] included.
    pub fn new(size: usize) -> Self {
        let shared = Arc::new(Shared {
            state: AtomicU64::new(CLOSED),
            job: UnsafeCell::new(None),
            next: AtomicUsize::new(0),
            ahead: AtomicPtr::new(ptr::null_mut()),
            ahead_stride: AtomicUsize::new(0),
            leaving: AtomicBool::new(false),
            panic: Mutex::new(None),
        });
        let mut members = Vec::new();
        for i in 1..size.min(COUNT as usize) {
            let shared = shared.clone();
            let builder = thread::Builder::new().name(format!("edgeling-{i}"));
            // With fewer threads than asked for the same work takes longer.
            let Ok(member) = builder.spawn(move || shared.serve(Wait::new(i))) else { break };
            members.push(member);
        }
        let threads = members.iter().map(|m| m.thread().clone()).collect();
        Self { shared, members, threads, wait: Wait::new(0) }
    }

    /// Says what a coming job reads: its item `i` begins at `first + i * stride`. Threads that wait fetch it meanwhile.
    pub fn expect(&mut self, first: *const u8, stride: usize) {
        self.shared.ahead_stride.store(stride, Ordering::Relaxed);
        self.shared.ahead.store(first.cast_mut(), Ordering::Relaxed);
    }

    /// Threads of the team, the caller included.
    pub fn size(&self) -> usize {
        self.members.len() + 1
    }

    /// Calls `call` with every number below `items`, on all threads, and returns when all are done.
    ///
    /// # Panics
    /// If the call panics.
    pub fn run(&mut self, items: usize, call: &(dyn Fn(usize) + Sync)) {
        if items <= 1 || self.members.is_empty() {
            (0..items).for_each(call);
            return;
        }
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes; below, this function awaits every member that can hold the call.
        let job = Job { call: unsafe { std::mem::transmute::<*const Call<'_>, *const Call<'static>>(call) }, items };
        // SAFETY: the last job was closed and left by all members, and `&mut self` is the only caller.
        unsafe { *shared.job.get() = Some(job) };
        shared.next.store(0, Ordering::Relaxed);
        let number = shared.state.load(Ordering::Relaxed) & !(CLOSED | COUNT);
        shared.state.store(number + JOB, Ordering::Release);
        self.threads.iter().for_each(Thread::unpark);
        shared.work(job);
        shared.state.fetch_or(CLOSED, Ordering::Relaxed);
        self.wait.begin();
        while shared.state.load(Ordering::Acquire) & COUNT > 0 {
            self.wait.pause(shared, thread::yield_now);
        }
        if let Some(panic) = shared.panic.lock().unwrap_or_else(PoisonError::into_inner).take() {
            resume_unwind(panic);
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.leaving.store(true, Ordering::Release);
        self.threads.iter().for_each(Thread::unpark);
        for member in self.members.drain(..) {
            // A member catches the panics of jobs and has none of its own.
            let _ = member.join();
        }
    }
}

/// A thread that waits.
struct Wait {
    /// Its number in the team: most often that of the item that it takes first.
    member: usize,
    spins: u32,
    /// What it has last fetched the beginning of, and how far.
    ahead: usize,
    fetched: usize,
}

impl Wait {
    fn new(member: usize) -> Self {
        Self { member, spins: 0, ahead: 0, fetched: 0 }
    }

    fn begin(&mut self) {
        self.spins = 0;
    }

    /// Between two looks at what is waited for: fetches some of what is read next and spins, or after a while calls
    /// `rest`.
    fn pause(&mut self, shared: &Shared, rest: impl Fn()) {
        let ahead = shared.ahead.load(Ordering::Relaxed);
        if ahead.addr() != self.ahead {
            (self.ahead, self.fetched) = (ahead.addr(), 0);
        }
        let stride = shared.ahead_stride.load(Ordering::Relaxed);
        if self.fetched < stride.min(FETCHED) {
            let first = ahead.wrapping_add(self.member * stride + self.fetched);
            (0..FETCHED_AT_ONCE).step_by(64).for_each(|line| prefetch(first.wrapping_add(line)));
            self.fetched += FETCHED_AT_ONCE;
        }
        self.spins += 1;
        if self.spins < SPINS { std::hint::spin_loop() } else { rest() }
    }
}

impl Shared {
    /// A member's life: join a job, help with it, leave it.
    fn serve(&self, mut wait: Wait) {
        let mut last = 0;
        while !self.leaving.load(Ordering::Acquire) {
            let state = self.state.load(Ordering::Relaxed);
            let number = state & !(CLOSED | COUNT);
            let open = state & CLOSED == 0 && number != last;
            let join = || self.state.compare_exchange(state, state + JOINED, Ordering::Acquire, Ordering::Relaxed);
            if !open || join().is_err() {
                wait.pause(self, thread::park);
                continue;
            }
            last = number;
            // SAFETY: this member has joined, so the job stays until it leaves.
            if let Some(job) = unsafe { *self.job.get() } {
                self.work(job);
            }
            self.state.fetch_sub(JOINED, Ordering::Release);
            wait.begin();
        }
    }

    /// Takes items until none is left. A panic ends the job for everyone and is kept for the caller.
    fn work(&self, job: Job) {
        // SAFETY: `run` keeps the call alive until all members have left.
        let call = unsafe { &*job.call };
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
            *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
        }
    }
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
