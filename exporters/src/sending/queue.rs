//! The bounded queue in front of an exporter and the tasks that empty it.
//!
//! A batch is held encoded only, and counts until it is delivered or given up, as in the Collector: `queue_size` in
//! bytes bounds the memory.

use std::sync::{Arc, Mutex, PoisonError};

use blameio_pipeline::{Batch, ExportError, telemetry::ComponentMetrics};
use tokio::{
    sync::{Mutex as AsyncMutex, OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    task::JoinSet,
};

use super::{
    retry::Attempts,
    settings::{QueueSettings, Sizer},
};

type Outcome = Result<(), ExportError>;

struct Item {
    batch: Batch,
    /// Its places in the queue, free once the item is dropped.
    places: OwnedSemaphorePermit,
    /// Who waits for the result, if anybody does.
    answer: Option<oneshot::Sender<Outcome>>,
}

pub(super) struct Queue {
    settings: QueueSettings,
    /// Names the exporter in the log.
    who: String,
    places: Arc<Semaphore>,
    metrics: ComponentMetrics,
    /// Taken at shutdown: that closes the queue, and the consumers end once it is empty.
    sender: Mutex<Option<mpsc::Sender<Item>>>,
    /// Taken at start.
    receiver: Mutex<Option<mpsc::Receiver<Item>>>,
    /// Dropping the set ends the consumers, whatever they are doing.
    consumers: Mutex<JoinSet<()>>,
}

impl Queue {
    pub(super) fn new(settings: &QueueSettings, who: String, metrics: ComponentMetrics) -> Self {
        let size = settings.queue_size.clamp(1, Semaphore::MAX_PERMITS);
        let settings = QueueSettings { queue_size: size, ..settings.clone() };
        let (sender, receiver) = mpsc::channel(size);
        Self {
            places: Arc::new(Semaphore::new(size)),
            settings,
            who,
            metrics,
            sender: Mutex::new(Some(sender)),
            receiver: Mutex::new(Some(receiver)),
            consumers: Mutex::default(),
        }
    }

    /// Begins to send.
    pub(super) fn start(&self, attempts: &Arc<Attempts>) {
        let Some(receiver) = locked(&self.receiver).take() else { return };
        let receiver = Arc::new(AsyncMutex::new(receiver));
        self.report();
        let mut consumers = locked(&self.consumers);
        for _ in 0..self.settings.num_consumers.max(1) {
            let (receiver, attempts) = (Arc::clone(&receiver), Arc::clone(attempts));
            let (free, size) = (Arc::clone(&self.places), self.settings.queue_size);
            let metrics = self.metrics.clone();
            consumers.spawn(async move {
                loop {
                    let Some(item) = receiver.lock().await.recv().await else { break };
                    let outcome = super::counted(&metrics, &item.batch, attempts.deliver(&item.batch).await);
                    drop((item.batch, item.places));
                    metrics.queue(size - free.available_permits(), size);
                    if let Some(answer) = item.answer {
                        // Who no longer waits has nobody to tell.
                        drop(answer.send(outcome));
                    }
                }
            });
        }
    }

    /// Takes a batch in; with `wait_for_result` returns when it is delivered or given up.
    pub(super) async fn put(&self, batch: Batch) -> Outcome {
        let Some(sender) = locked(&self.sender).clone() else {
            return self.refuse(&batch, later("shutting down"));
        };
        let Some(size) = self.size(&batch) else {
            let QueueSettings { queue_size, sizer, .. } = &self.settings;
            let reason = format!("element size too large: a queue of {queue_size} {sizer} can never hold it");
            return self.refuse(&batch, ExportError::Permanent { reason });
        };
        let places = Arc::clone(&self.places);
        let places = if self.settings.block_on_overflow {
            places.acquire_many_owned(size).await.ok()
        } else {
            places.try_acquire_many_owned(size).ok()
        };
        let Some(places) = places else { return self.refuse(&batch, later("sending queue is full")) };
        let (answer, result) = match self.settings.wait_for_result.then(oneshot::channel) {
            Some((answer, result)) => (Some(answer), Some(result)),
            None => (None, None),
        };
        let item = Item { batch: batch.encoded(), places, answer };
        drop(batch);
        // A place in the queue is room in the channel: only a closed one refuses.
        if let Err(refused) = sender.try_send(item) {
            return self.refuse(&refused.into_inner().batch, later("shutting down"));
        }
        drop(sender);
        self.report();
        match result {
            Some(result) => {
                result.await.unwrap_or_else(|_| Err(later("shut down before the batch was sent")))
            }
            None => Ok(()),
        }
    }

    /// Sends what is left. The caller's deadline is the limit: dropping the future ends the consumers.
    pub(super) async fn drain(&self) {
        drop(locked(&self.sender).take());
        let mut consumers = std::mem::take(&mut *locked(&self.consumers));
        while consumers.join_next().await.is_some() {}
        self.report();
    }

    /// The places that a batch takes; none if there will never be so many.
    fn size(&self, batch: &Batch) -> Option<u32> {
        let size = match self.settings.sizer {
            Sizer::Requests => 1,
            Sizer::Items => batch.items(),
            Sizer::Bytes => batch.bytes().len(),
        };
        // One that holds nothing takes a place all the same: the number of batches is bounded too.
        let fits = size <= self.settings.queue_size;
        fits.then(|| u32::try_from(size.max(1)).ok()).flatten()
    }

    fn refuse(&self, batch: &Batch, error: ExportError) -> Outcome {
        let items = batch.items();
        self.metrics.enqueue_failed(items);
        tracing::error!(exporter = %self.who, rejected_items = items, %error, "Exporting failed. Rejecting data.");
        Err(error)
    }

    fn report(&self) {
        let size = self.settings.queue_size;
        self.metrics.queue(size - self.places.available_permits(), size);
    }
}

fn later(reason: &str) -> ExportError {
    ExportError::Retry { reason: reason.to_owned(), after: None }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
