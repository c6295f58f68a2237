//! Bars with rate and time left, drawn on standard error.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Ui;

/// Work that takes less needs no bar.
const PATIENCE: Duration = Duration::from_secs(1);

/// Redraws a second: enough to look alive, too few to cost anything.
const REDRAWS: u8 = 10;

/// One bar; nothing at all where no person watches.
pub struct Progress {
    bar: ProgressBar,
    /// Takes over as soon as a total is known.
    with_total: Option<ProgressStyle>,
    /// When a bar that waits for slow work becomes visible.
    show_at: Option<Instant>,
}

impl Progress {
    pub(super) fn bytes(label: &str, watched: bool) -> Self {
        Self::new(
            label,
            "{prefix}  {wide_bar}  {decimal_bytes}/{decimal_total_bytes}  {decimal_bytes_per_sec}  {eta} left  {msg}",
            "{spinner} {prefix}  {decimal_bytes}  {decimal_bytes_per_sec}",
            watched,
        )
    }

    pub(super) fn count(label: &str, unit: &str, watched: bool) -> Self {
        let with_total =
            format!("{{prefix}}  {{wide_bar}}  {{pos}}/{{len}} {unit}  {{per_sec}}  {{eta}} left  {{msg}}");
        let without = format!("{{spinner}} {{prefix}}  {{pos}} {unit}  {{per_sec}}");
        Self::new(label, &with_total, &without, watched)
    }

    fn new(label: &str, with_total: &str, without: &str, watched: bool) -> Self {
        let target = if watched { visible() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target).with_prefix(label.to_owned());
        if let Ok(style) = ProgressStyle::with_template(without) {
            bar.set_style(style);
        }
        Self { bar, with_total: ProgressStyle::with_template(with_total).ok(), show_at: None }
    }

    /// Hides the bar until the work has outlasted [`PATIENCE`].
    pub(super) fn delayed(mut self) -> Self {
        if !self.bar.is_hidden() {
            self.bar.set_draw_target(ProgressDrawTarget::hidden());
            self.show_at = Some(Instant::now() + PATIENCE);
        }
        self
    }

    /// Shows `done` of `total`; `None` where the total is not known.
    pub fn set(&mut self, done: u64, total: Option<u64>) {
        if self.show_at.is_some_and(|at| Instant::now() >= at) {
            self.show_at = None;
            self.bar.set_draw_target(visible());
        }
        if let Some(total) = total {
            if let Some(style) = self.with_total.take() {
                self.bar.set_style(style);
            }
            self.bar.set_length(total);
        }
        self.bar.set_position(done);
    }
}

impl Progress {
    /// A remark behind the bar.
    pub fn message(&self, text: String) {
        self.bar.set_message(text);
    }
}

impl Drop for Progress {
    /// Leaves the line as if the bar had never been there.
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Shows the stages of a pull, a bar for each.
pub struct Stages<'a> {
    ui: &'a Ui,
    /// The bar of the stage under way, its bytes done and their total.
    stage: RefCell<Option<(Progress, u64, Option<u64>)>>,
}

impl<'a> Stages<'a> {
    pub fn new(ui: &'a Ui) -> Self {
        Self { ui, stage: RefCell::new(None) }
    }
}

impl hub::Progress for Stages<'_> {
    fn start(&self, what: &str, total: Option<u64>) {
        let mut bar = self.ui.bytes(what);
        bar.set(0, total);
        self.stage.replace(Some((bar, 0, total)));
    }

    fn advance(&self, bytes: u64) {
        if let Some((bar, done, total)) = &mut *self.stage.borrow_mut() {
            *done += bytes;
            bar.set(*done, *total);
        }
    }

    fn finish(&self) {
        self.stage.replace(None);
    }

    fn stopped(&self) -> bool {
        crate::interrupt::pressed()
    }
}

fn visible() -> ProgressDrawTarget {
    ProgressDrawTarget::stderr_with_hz(REDRAWS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_templates_of_both_kinds_are_valid() {
        for mut bar in [Progress::bytes("x", false), Progress::count("x", "tokens", false)] {
            assert!(bar.with_total.is_some());
            bar.set(1, None);
            assert!(bar.with_total.is_some());
            bar.set(2, Some(4));
            assert!(bar.with_total.is_none());
            assert_eq!((bar.bar.position(), bar.bar.length()), (2, Some(4)));
        }
    }

    #[test]
    fn an_unwatched_bar_never_becomes_visible() {
        let bar = Progress::bytes("x", false).delayed();
        assert!(bar.bar.is_hidden() && bar.show_at.is_none());
    }
}
