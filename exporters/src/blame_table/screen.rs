//! Writes to the terminal, on a thread of its own.
//!
//! A terminal that is held with Ctrl-S, or a pager nobody scrolls, blocks the writer for as long as it likes.
//! Only that thread waits for it: one text is kept for it, a newer one takes its place, and closing gives up.

use std::{
    io::{self, Write},
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tokio::{sync::oneshot, time::timeout};

/// How long closing waits for what is still to be written.
const GRACE: Duration = Duration::from_millis(500);

#[derive(Debug, Default)]
struct Slot {
    text: Option<String>,
    closed: bool,
}

#[derive(Debug, Default)]
struct Shared {
    slot: Mutex<Slot>,
    changed: Condvar,
}

impl Shared {
    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next text; `None` when nothing is left and nothing will come.
    fn next(&self) -> Option<String> {
        let waiting = self.changed.wait_while(self.slot(), |slot| slot.text.is_none() && !slot.closed);
        waiting.unwrap_or_else(PoisonError::into_inner).text.take()
    }

    fn close(&self) {
        self.slot().closed = true;
        self.changed.notify_all();
    }
}

/// The way to the thread that writes; dropping it lets the thread end.
#[derive(Debug)]
pub(super) struct Screen {
    shared: Arc<Shared>,
    /// Its sender is dropped when the thread ends.
    ended: oneshot::Receiver<()>,
}

impl Screen {
    /// Starts the thread.
    pub(super) fn open(mut writer: Box<dyn Write + Send>) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let (end, ended) = oneshot::channel::<()>();
        let of_thread = Arc::clone(&shared);
        // Not one of the runtime's blocking threads: the runtime waits for those before the agent can end.
        thread::Builder::new().name("blame_table".to_owned()).spawn(move || {
            while let Some(text) = of_thread.next() {
                if let Err(error) = writer.write_all(text.as_bytes()).and_then(|()| writer.flush()) {
                    tracing::debug!(%error, "the table cannot be written");
                }
            }
            drop(end);
        })?;
        Ok(Self { shared, ended })
    }

    /// Has `text` written, in the place of one that the terminal has not taken yet; returns whether there was one.
    pub(super) fn show(&self, text: String) -> bool {
        let lost = self.shared.slot().text.replace(text).is_some();
        self.shared.changed.notify_all();
        lost
    }

    /// Has `text` written, unless something is still waiting to be.
    pub(super) fn remark(&self, text: String) {
        self.shared.slot().text.get_or_insert(text);
        self.shared.changed.notify_all();
    }

    /// Waits a little for what is still to be written, and leaves the thread to the terminal otherwise.
    pub(super) async fn close(mut self) {
        self.shared.close();
        // Nothing is ever sent: the end of the thread is the answer.
        if timeout(GRACE, &mut self.ended).await.is_err() {
            let lost = mem::take(&mut self.shared.slot().text).is_some();
            tracing::debug!(lost, "the terminal does not take the table");
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.shared.close();
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Instant};

    use super::*;

    /// Takes a text only when it is told to.
    struct Stuck {
        reached: mpsc::SyncSender<String>,
        go_on: mpsc::Receiver<()>,
    }

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.reached.send(String::from_utf8_lossy(bytes).into_owned()).ok();
            self.go_on.recv().ok();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn stuck() -> (Screen, mpsc::Receiver<String>, mpsc::SyncSender<()>) {
        let ((reached, reports), (release, go_on)) = (mpsc::sync_channel(8), mpsc::sync_channel(8));
        (Screen::open(Box::new(Stuck { reached, go_on })).unwrap(), reports, release)
    }

    #[tokio::test]
    async fn a_newer_text_takes_the_place_of_one_that_waits() {
        let (screen, reports, release) = stuck();
        screen.show("1".to_owned());
        assert_eq!(reports.recv().unwrap(), "1");
        for text in ["2", "3", "4"] {
            screen.show(text.to_owned());
        }
        screen.remark("a remark".to_owned());
        for _ in 0..2 {
            release.send(()).unwrap();
        }
        assert_eq!(reports.recv().unwrap(), "4");
        screen.close().await;
        assert!(reports.recv().is_err(), "nothing else was written, and the thread is gone");
    }

    #[tokio::test]
    async fn closing_does_not_wait_for_a_terminal_that_is_stuck() {
        let (screen, reports, release) = stuck();
        screen.show("1".to_owned());
        assert_eq!(reports.recv().unwrap(), "1");
        screen.show("2".to_owned());
        let began = Instant::now();
        screen.close().await;
        let took = began.elapsed();
        assert!(took >= GRACE && took < GRACE * 6, "{took:?}");
        drop(release);
    }
}
