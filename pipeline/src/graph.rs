//! Builds the pipelines from the configuration and runs them: start in reverse topological order (extensions,
//! exporters, processors, receivers), drain, then shut down with a deadline.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use blameio_config::{
    Component, ComponentId, Configuration, Diagnostics, Path, PipelineId, Reference, Signal,
};
use tokio::{
    sync::mpsc,
    task::{JoinHandle, JoinSet},
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    ComponentError, Components, Context, Control, Exporter, Extension, Factory, Host, Output, Receiver,
    health::{Health, Late},
    output::{Inlet, PIPELINE_DEPTH},
    telemetry::AgentMetrics,
};

mod pipeline;

use pipeline::{Plan, Stage};

/// Pipelines that can be started.
pub struct Graph {
    host: Arc<Host>,
    receivers: Vec<(ComponentId, Box<dyn Receiver>, Vec<PipelineId>)>,
    pipelines: Vec<Plan>,
    exporters: BTreeMap<ComponentId, Arc<dyn Exporter>>,
    metrics: AgentMetrics,
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.pipelines.iter().map(|plan| plan.id.to_string())).finish()
    }
}

/// Checks every component's settings, used by a pipeline or not, without opening anything.
pub fn validate(configuration: &Configuration, components: &Components) -> Diagnostics {
    let mut found = Diagnostics::default();
    check("receivers", &configuration.receivers, components.receivers, &mut found);
    check("processors", &configuration.processors, components.processors, &mut found);
    check("exporters", &configuration.exporters, components.exporters, &mut found);
    check("extensions", &configuration.extensions, components.extensions, &mut found);
    for connector in &configuration.connectors {
        let path = Path::root().key("connectors");
        found.error(
            &connector.position,
            &path,
            format!(
                "unknown type: \"{}\" for id: \"{}\" (valid values: [])",
                connector.id.kind(),
                connector.id
            ),
        );
    }
    check_signals(configuration, components, &mut found);
    found
}

fn check<T: ?Sized>(
    section: &str,
    declared: &[Component],
    factories: &[Factory<T>],
    found: &mut Diagnostics,
) {
    for component in declared {
        let path = Path::root().key(section);
        match factories.iter().find(|factory| factory.kind == component.id.kind()) {
            Some(factory) => (factory.validate)(&component.body, &path.key(&component.id.to_string()), found),
            None => {
                let valid: Vec<_> = factories.iter().map(|factory| factory.kind).collect();
                found.error(
                    &component.position,
                    &path,
                    format!(
                        "unknown type: \"{}\" for id: \"{}\" (valid values: [{}])",
                        component.id.kind(),
                        component.id,
                        valid.join(" ")
                    ),
                );
            }
        }
    }
}

fn check_signals(configuration: &Configuration, components: &Components, found: &mut Diagnostics) {
    for pipeline in &configuration.service.pipelines {
        let signal = pipeline.id.signal;
        let path = Path::root().key("service").key("pipelines").key(&pipeline.id.to_string());
        let mut check = |kind: &str, reference: &Reference, signals: Option<&'static [Signal]>| {
            if signals.is_some_and(|signals| !signals.contains(&signal)) {
                found.error(
                    &reference.position,
                    &path,
                    format!("{kind} \"{}\" does not support {signal}", reference.id),
                );
            }
        };
        for reference in &pipeline.receivers {
            check("receiver", reference, signals_of(components.receivers, &reference.id));
        }
        for reference in &pipeline.processors {
            check("processor", reference, signals_of(components.processors, &reference.id));
        }
        for reference in &pipeline.exporters {
            check("exporter", reference, signals_of(components.exporters, &reference.id));
        }
    }
}

fn signals_of<T: ?Sized>(factories: &[Factory<T>], id: &ComponentId) -> Option<&'static [Signal]> {
    factories.iter().find(|factory| factory.kind == id.kind()).map(|factory| factory.signals)
}

fn create<T: ?Sized>(
    declared: &[Component],
    factories: &[Factory<T>],
    id: &ComponentId,
    context: &dyn Fn(ComponentId) -> Context,
) -> Result<Box<T>, ComponentError> {
    let missing = || ComponentError::new(id, "is not configured", "declare it, or remove the reference");
    let component = declared.iter().find(|component| component.id == *id).ok_or_else(missing)?;
    let factory = factories.iter().find(|factory| factory.kind == id.kind()).ok_or_else(missing)?;
    (factory.create)(&component.body, context(id.clone()))
}

impl Graph {
    /// Makes every component that a pipeline or `service::extensions` names. Opens nothing.
    pub fn build(
        configuration: &Configuration,
        components: &Components,
        metrics: &AgentMetrics,
    ) -> Result<Self, Vec<ComponentError>> {
        Self::build_with(configuration, components, metrics, BTreeMap::new())
    }

    /// The same, with extensions that were made in code beside those of the configuration.
    pub fn build_with(
        configuration: &Configuration,
        components: &Components,
        metrics: &AgentMetrics,
        mut extensions: BTreeMap<ComponentId, Arc<dyn Extension>>,
    ) -> Result<Self, Vec<ComponentError>> {
        let mut errors = Vec::new();
        let bare = |id| Context { id, host: Arc::default(), metrics: metrics.clone() };
        for reference in &configuration.service.extensions {
            match create(&configuration.extensions, components.extensions, &reference.id, &bare) {
                Ok(extension) => drop(extensions.insert(reference.id.clone(), Arc::from(extension))),
                Err(error) => errors.push(error),
            }
        }
        let host = Arc::new(Host::new(extensions));
        let context = |id| Context { id, host: Arc::clone(&host), metrics: metrics.clone() };

        let mut exporters: BTreeMap<ComponentId, Arc<dyn Exporter>> = BTreeMap::new();
        let mut feeds: BTreeMap<ComponentId, Vec<PipelineId>> = BTreeMap::new();
        let mut pipelines = Vec::new();
        for pipeline in &configuration.service.pipelines {
            let mut processors = Vec::new();
            for Reference { id, .. } in &pipeline.processors {
                match create(&configuration.processors, components.processors, id, &context) {
                    Ok(processor) => processors.push((id.clone(), processor)),
                    Err(error) => errors.push(error),
                }
            }
            for Reference { id, .. } in &pipeline.exporters {
                if !exporters.contains_key(id) {
                    match create(&configuration.exporters, components.exporters, id, &context) {
                        Ok(exporter) => drop(exporters.insert(id.clone(), Arc::from(exporter))),
                        Err(error) => errors.push(error),
                    }
                }
            }
            for Reference { id, .. } in &pipeline.receivers {
                feeds.entry(id.clone()).or_default().push(pipeline.id.clone());
            }
            let exporters = pipeline.exporters.iter().map(|reference| reference.id.clone()).collect();
            pipelines.push(Plan { id: pipeline.id.clone(), processors, exporters });
        }
        let mut receivers = Vec::new();
        for (id, fed) in feeds {
            match create(&configuration.receivers, components.receivers, &id, &context) {
                Ok(receiver) => receivers.push((id, receiver, fed)),
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() {
            Ok(Self { host, receivers, pipelines, exporters, metrics: metrics.clone() })
        } else {
            Err(errors)
        }
    }

    /// The extensions.
    pub fn host(&self) -> &Arc<Host> {
        &self.host
    }

    /// Adds an exporter that was made in code to every pipeline of metrics, beside those of the configuration.
    pub fn attach(&mut self, id: &ComponentId, exporter: &Arc<dyn Exporter>) {
        self.exporters.insert(id.clone(), Arc::clone(exporter));
        for plan in self.pipelines.iter_mut().filter(|plan| plan.id.signal == Signal::Metrics) {
            plan.exporters.push(id.clone());
        }
    }

    /// Starts everything, receivers last. On an error what was started is shut down again.
    pub async fn start(self) -> Result<Running, ComponentError> {
        let Self { host, receivers, pipelines, exporters, metrics } = self;
        let mut running = Running {
            host: Arc::clone(&host),
            exporters,
            pipelines: Vec::new(),
            receivers: Vec::new(),
            drain: CancellationToken::new(),
            health: Health::default(),
        };
        if let Err(error) = running.start_outer().await {
            running.shutdown(Duration::from_secs(5)).await;
            return Err(error);
        }
        let mut inlets = BTreeMap::new();
        for Plan { id, processors, exporters } in pipelines {
            let (sender, inbox) = mpsc::channel(PIPELINE_DEPTH);
            inlets.insert(id.to_string(), Inlet { pipeline: id.clone(), sender });
            let stages = processors
                .into_iter()
                .map(|(id, processor)| Stage { metrics: metrics.component("processor", &id), id, processor })
                .collect();
            let outlets = exporters
                .into_iter()
                .filter_map(|name| running.exporters.get(&name).map(|exporter| (name, Arc::clone(exporter))))
                .collect();
            let heartbeat = running.health.register(format!("pipeline {id}"), pipeline::HEARTBEAT);
            running.pipelines.push(tokio::spawn(pipeline::run(id, stages, outlets, inbox, heartbeat)));
        }
        for (id, receiver, fed) in receivers {
            let inlets = fed.iter().filter_map(|id| inlets.get(&id.to_string()).cloned()).collect();
            let output = Output::new(inlets, metrics.component("receiver", &id));
            let heartbeat = running.health.register(format!("receiver {id}"), receiver.heartbeat_interval());
            let control = Control { drain: running.drain.clone(), heartbeat: heartbeat.clone() };
            let drain = running.drain.clone();
            running.receivers.push(tokio::spawn(async move {
                let result = receiver.run(output, control).await;
                if let Err(error) = result {
                    tracing::error!(receiver = %id, %error, "receiver stopped; everything else goes on");
                }
                if !drain.is_cancelled() {
                    heartbeat.failed();
                    // Kept until the drain so that the failure stays visible in the health.
                    drain.cancelled().await;
                }
            }));
        }
        Ok(running)
    }
}

/// Pipelines at work.
pub struct Running {
    host: Arc<Host>,
    exporters: BTreeMap<ComponentId, Arc<dyn Exporter>>,
    pipelines: Vec<JoinHandle<()>>,
    receivers: Vec<JoinHandle<()>>,
    drain: CancellationToken,
    health: Health,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("pipelines", &self.pipelines.len()).finish_non_exhaustive()
    }
}

impl Running {
    async fn start_outer(&self) -> Result<(), ComponentError> {
        for (_, extension) in self.host.extensions() {
            extension.start().await?;
        }
        for exporter in self.exporters.values() {
            exporter.start().await?;
        }
        Ok(())
    }

    /// Workers that are late or have failed; empty when all is well.
    pub fn late(&self) -> Vec<Late> {
        self.health.late()
    }

    /// Receivers end first and hand on what they have, then pipelines, then all exporters at once, then extensions.
    /// Receivers have two fifths of the time and pipelines until its half, so that what is blocked leaves the rest to
    /// the exporters. Whatever has not ended by then is dropped, and named.
    pub async fn shutdown(mut self, deadline: Duration) {
        let started = Instant::now();
        let until = started + deadline;
        self.drain.cancel();
        // Now, since an exporter that waits for its next attempt may be what a pipeline waits for.
        for exporter in self.exporters.values() {
            exporter.drain();
        }
        let receivers = self.receivers.drain(..).map(|task| (task, deadline * 2 / 5));
        let pipelines = self.pipelines.drain(..).map(|task| (task, deadline / 2));
        for (mut task, part) in receivers.chain(pipelines) {
            if timeout_at(started + part, &mut task).await.is_err() {
                tracing::warn!(waited = ?part, "a component did not drain in its time; what it held is lost");
                task.abort();
            }
        }
        let mut ends = JoinSet::new();
        for (id, exporter) in std::mem::take(&mut self.exporters) {
            ends.spawn(async move {
                if timeout_at(until, exporter.shutdown()).await.is_err() {
                    tracing::warn!(exporter = %id, "did not deliver what was left before the deadline");
                }
            });
        }
        while ends.join_next().await.is_some() {}
        for (id, extension) in self.host.extensions() {
            let until = until.max(Instant::now() + Duration::from_millis(100));
            if timeout_at(until, extension.shutdown()).await.is_err() {
                tracing::warn!(extension = %id, "did not close before the deadline");
            }
        }
    }
}

#[cfg(test)]
mod tests;
