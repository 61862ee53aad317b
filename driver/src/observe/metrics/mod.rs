//! The content of `/metrics`, in Prometheus' text format 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).
//!
//! Counting and timing take a few atomic additions and no memory; everything else is done at a request.

mod histogram;
mod process;
mod text;

use std::any::TypeId;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hax_core::base::fact::{Metric, Report};
use hax_core::base::time::Instant;
use hax_core::ha::fact::Fact;
use hax_core::machine::Machine;

use crate::host::clock::Clock;
use crate::observe::facts::{self, Counters};
use histogram::Histogram;
use text::Text;

/// The `Content-Type` of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The methods with series of their own; the last stands for all others.
const METHODS: [&str; 4] = ["GET", "HEAD", "POST", "other"];

/// The HTTP statuses with series of their own; the last stands for all others.
const CODES: [u16; 17] =
    [200, 400, 401, 404, 405, 408, 409, 413, 414, 417, 431, 500, 501, 502, 503, 504, 0];

/// The methods and statuses whose series exist from the start. An alert sees no increase in a series that
/// begins with its first count. All combinations would be a thousand empty series.
const FROM_THE_START: ([&str; 2], [u16; 4]) = (["GET", "POST"], [200, 401, 404, 503]);

/// The kinds of requests to Consul, by the path below `/v1/`; the last stands for all others.
const KINDS: [&str; 7] = ["agent", "catalog", "health", "kv", "session", "txn", "other"];

/// All counters and timings.
#[derive(Debug)]
pub struct Metrics {
    clock: Clock,
    /// The host's own facts, and those of the machine if it has others.
    reports: Vec<Reports>,
    http: [[Histogram; CODES.len()]; METHODS.len()],
    consul: [[Histogram; KINDS.len()]; 2],
    calls: AtomicU64,
    received: AtomicU64,
    gauges: Vec<(Metric, AtomicU64)>,
}

/// The counters of the facts of one type.
#[derive(Debug)]
struct Reports {
    of: TypeId,
    /// The kinds begin with those of the host's own facts.
    has_own: bool,
    seen: Counters,
    took: Vec<(Metric, Histogram)>,
}

impl Reports {
    fn of<F: Report + 'static>() -> Self {
        let took = F::LATENCIES.iter().map(|metric| (*metric, Histogram::default())).collect();
        let has_own = F::KINDS.starts_with(Fact::KINDS);
        Self { of: TypeId::of::<F>(), has_own, seen: Counters::of::<F>(), took }
    }

    /// Returns whether the facts `F` are counted here, with the same numbers of kinds and metrics.
    fn has<F: Report + 'static>(&self) -> bool {
        let of = TypeId::of::<F>();
        self.of == of || self.has_own && of == TypeId::of::<Fact>()
    }
}

impl Metrics {
    /// Creates metrics without counts, for a host without a machine.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        use std::array::from_fn;
        Self {
            clock,
            reports: vec![Reports::of::<Fact>()],
            http: from_fn(|_| from_fn(|_| Histogram::default())),
            consul: Default::default(),
            calls: AtomicU64::new(0),
            received: AtomicU64::new(0),
            gauges: Vec::new(),
        }
    }

    /// Creates metrics without counts, for a host that will drive such a machine.
    #[must_use]
    pub fn of<M: Machine<Fact: 'static>>(clock: Clock) -> Self {
        let mut metrics = Self::new(clock);
        let reports = Reports::of::<M::Fact>();
        if reports.has_own {
            metrics.reports.clear();
        }
        metrics.reports.push(reports);
        metrics.gauges = M::GAUGES.iter().map(|gauge| (*gauge, AtomicU64::new(0))).collect();
        metrics
    }

    /// Returns the start time of a timing.
    #[must_use]
    pub fn begin(&self) -> Instant {
        self.clock.now().mono
    }

    fn since(&self, begun: Instant) -> Duration {
        self.clock.now().mono.since(begun)
    }

    /// Logs a fact, counts it, and records its duration if it has one.
    pub fn record<F: Report + 'static>(&self, fact: &F) {
        facts::log(fact);
        let Some(reports) = self.reports.iter().find(|all| all.has::<F>()) else {
            return;
        };
        reports.seen.count(fact.nth());
        if let Some((nth, took)) = fact.took() {
            reports.took[nth].1.observe(took);
        }
    }

    /// Returns the count of this fact's kind.
    #[must_use]
    pub fn seen<F: Report + 'static>(&self, fact: &F) -> u64 {
        let reports = self.reports.iter().find(|all| all.has::<F>());
        reports.map_or(0, |reports| reports.seen.get(fact.nth()))
    }

    /// Stores the values of a machine's gauges, in the order of their names.
    pub fn observe(&self, values: impl Iterator<Item = u64>) {
        for ((_, gauge), value) in self.gauges.iter().zip(values) {
            gauge.store(value, Ordering::Relaxed);
        }
    }

    /// Records the response to an HTTP request that arrived at `begun`.
    pub fn http_answered(&self, method: &str, code: u16, begun: Instant) {
        let method = position(&METHODS, |name| *name == method);
        let code = position(&CODES, |known| *known == code);
        self.http[method][code].observe(self.since(begun));
    }

    /// Records the beginning of a call to Consul.
    #[must_use]
    pub fn call(&self, target: &str) -> Call<'_> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let path = target.strip_prefix("/v1/").unwrap_or(target);
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let first = path.split('/').next().unwrap_or(path);
        let kind = position(&KINDS, |name| *name == first);
        let blocking = query.split('&').any(|part| part.starts_with("index="));
        let took = &self.consul[usize::from(blocking)][kind];
        Call { metrics: self, took, begun: self.begin() }
    }

    /// Returns all metrics as text; `inbox` is the number of inputs that wait for the machine.
    #[must_use]
    pub fn render(&self, inbox: usize) -> String {
        let mut text = Text::default();
        text.family("hax_build_info", "gauge", "The version that runs, as a label; always 1.");
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        text.sample("hax_build_info", &version, 1);
        for (Metric { name, help }, value) in &self.gauges {
            text.family(name, "gauge", help);
            text.sample(name, &[], value.load(Ordering::Relaxed));
        }
        text.family("hax_inbox_inputs", "gauge", "Inputs that wait for the machine, 512 at most.");
        text.sample("hax_inbox_inputs", &[], inbox);
        let calls = "Requests to Consul without an answer yet, blocking queries included.";
        text.family("hax_consul_calls_in_flight", "gauge", calls);
        text.sample("hax_consul_calls_in_flight", &[], self.calls.load(Ordering::Relaxed));
        let bytes = "Bytes of the bodies of Consul's answers.";
        text.family("hax_consul_received_bytes_total", "counter", bytes);
        let received = self.received.load(Ordering::Relaxed);
        text.sample("hax_consul_received_bytes_total", &[], received);
        let facts = "What happened, by the kind of its log line.";
        text.family("hax_facts_total", "counter", facts);
        for (kind, n) in self.reports.iter().flat_map(|reports| reports.seen.iter()) {
            let labels = [
                ("fact", kind.name),
                ("level", facts::word(kind.level)),
                ("machine", kind.machine),
            ];
            // The node's own facts have no machine.
            let labels = &labels[..labels.len() - usize::from(kind.machine.is_empty())];
            text.sample("hax_facts_total", labels, n);
        }
        self.durations(&mut text);
        process::render(&mut text);
        text.finish()
    }

    fn durations(&self, text: &mut Text) {
        for (Metric { name, help }, histogram) in self.reports.iter().flat_map(|all| &all.took) {
            text.family(name, "histogram", help);
            histogram.render(text, name, &[]);
        }
        let name = "hax_consul_request_duration_seconds";
        let help = "Requests to Consul, those without an answer included, by the first part of the \
            path; blocking queries, which wait for a change, apart.";
        text.family(name, "histogram", help);
        for (blocking, kinds) in ["false", "true"].into_iter().zip(&self.consul) {
            for (kind, histogram) in KINDS.into_iter().zip(kinds) {
                histogram.render(text, name, &[("kind", kind), ("blocking", blocking)]);
            }
        }
        let name = "hax_http_request_duration_seconds";
        text.family(name, "histogram", "HTTP requests to hax, from their head to their answer.");
        for (method, codes) in METHODS.into_iter().zip(&self.http) {
            let is_shown = |(code, histogram): &(u16, &Histogram)| {
                let (methods, codes) = FROM_THE_START;
                histogram.is_used() || methods.contains(&method) && codes.contains(code)
            };
            for (code, histogram) in CODES.into_iter().zip(codes).filter(is_shown) {
                let code = if code == 0 { "other".into() } else { code.to_string() };
                histogram.render(text, name, &[("method", method), ("code", &code)]);
            }
        }
    }
}

/// Returns the position of the match, or else the last position.
fn position<T>(known: &[T], is: impl FnMut(&T) -> bool) -> usize {
    known.iter().position(is).unwrap_or(known.len() - 1)
}

/// A call to Consul that is in flight until this is dropped.
#[derive(Debug)]
pub struct Call<'a> {
    metrics: &'a Metrics,
    took: &'a Histogram,
    begun: Instant,
}

impl Call<'_> {
    /// Records the size of the response.
    pub fn received(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.metrics.received.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Records the end of the call, with or without a response. A cancelled call has no duration.
    pub fn done(&self) {
        self.took.observe(self.metrics.since(self.begun));
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.metrics.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use hax_core::base::fact::{Kind, Level};
    use hax_core::base::fid::Fid;
    use hax_core::base::time::{Next, Now};
    use hax_core::bridge::Bridge;
    use hax_core::bridge::config::Config;
    use hax_core::machine::{ExitReason, Input, Output, Status};
    use hax_core::node::{Node, gauges};
    use hax_core::route;
    use hax_core::services::fact as services;
    use hax_core::with_services::{NodeFact, WithServices};

    use super::*;

    #[test]
    fn f42_what_alerts_look_at_is_there_before_its_first_count() {
        let text = Metrics::of::<Node>(Clock::new()).render(0);
        for series in [
            "hax_facts_total{fact=\"ProcessDied\",level=\"warn\"} 0",
            "hax_facts_total{fact=\"MessageFatal\",level=\"error\"} 0",
            "hax_http_request_duration_seconds_count{method=\"GET\",code=\"401\"} 0",
            "hax_http_request_duration_seconds_count{method=\"POST\",code=\"401\"} 0",
            "hax_consul_request_duration_seconds_bucket{kind=\"kv\",blocking=\"false\",le=\"+Inf\"} 0",
            "hax_consul_request_duration_seconds_count{kind=\"txn\",blocking=\"false\"} 0",
            "hax_entrypoint_duration_seconds_bucket{le=\"+Inf\"} 0",
            "hax_ready 0",
        ] {
            assert!(text.lines().any(|line| line == series), "{series}: {text}");
        }
        assert!(!text.contains("code=\"418\"") && !text.contains("method=\"HEAD\""));
    }

    #[test]
    fn what_happened_is_in_the_text() {
        let metrics = Metrics::of::<Node>(Clock::new());
        metrics.record(&Fact::Ready {});
        let begun = metrics.begin();
        metrics.http_answered("GET", 200, begun);
        metrics.http_answered("PURGE", 418, begun);
        let mut view = Bridge::new(Config::new(Fid::process(1), "ssu1", 1)).view();
        (view.ready, view.consul, view.leads) = (true, true, true);
        (view.links, view.entries) = (3, 7);
        metrics.observe(gauges(view));
        let call = metrics.call("/v1/kv/leader?consistent");
        call.received(5);
        call.done();
        drop(call);
        metrics.call("/v1/kv/m0conf/?recurse&index=7&wait=60s").done();
        drop(metrics.call("/v1/session/create"));
        let in_flight = metrics.call("/v1/txn");
        let text = metrics.render(5);
        drop(in_flight);
        for line in [
            "hax_facts_total{fact=\"Ready\",level=\"info\"} 1",
            "hax_facts_total{fact=\"ConsulFailed\",level=\"warn\"} 0",
            "hax_ready 1",
            "hax_leading 1",
            "hax_consul_answers 1",
            "hax_links 3",
            "hax_entrypoints_waiting 7",
            "hax_inbox_inputs 5",
            "hax_consul_calls_in_flight 1",
            "hax_consul_received_bytes_total 5",
            "hax_http_request_duration_seconds_count{method=\"GET\",code=\"200\"} 1",
            "hax_http_request_duration_seconds_count{method=\"other\",code=\"other\"} 1",
            "hax_consul_request_duration_seconds_count{kind=\"kv\",blocking=\"false\"} 1",
            "hax_consul_request_duration_seconds_count{kind=\"kv\",blocking=\"true\"} 1",
            "hax_entrypoint_duration_seconds_count 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}: {text}");
        }
        let cancelled =
            "hax_consul_request_duration_seconds_count{kind=\"session\",blocking=\"false\"} 0";
        assert!(text.contains(cancelled), "a cancelled call has no duration");
        assert!(metrics.render(0).contains("hax_consul_calls_in_flight 0\n"));
    }

    #[test]
    fn each_series_is_there_once_whatever_machine_runs() {
        let node = Metrics::of::<WithServices<Node>>(Clock::new());
        node.record(&Fact::Ready {});
        node.record(&NodeFact::Ha(Fact::Ready {}));
        node.record(&NodeFact::Services(services::Fact::Left {}.into()));
        let text = node.render(0);
        for line in [
            "hax_facts_total{fact=\"Ready\",level=\"info\"} 2",
            "hax_facts_total{fact=\"Left\",level=\"info\",machine=\"services\"} 1",
            "hax_services_instances 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}: {text}");
        }
        for text in [text, Metrics::of::<route::Server>(Clock::new()).render(0)] {
            let mut series: Vec<_> =
                text.lines().filter_map(|line| line.rsplit_once(' ')).collect();
            series.sort_unstable();
            let twice = series.windows(2).find(|pair| pair[0].0 == pair[1].0);
            assert_eq!(twice, None);
        }
    }

    /// A machine of another kind, with facts of its own.
    struct Other;

    struct Bell;

    impl fmt::Display for Bell {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("it rang")
        }
    }

    impl Report for Bell {
        const KINDS: &'static [Kind] =
            &[Kind { name: "Rang", level: Level::Debug, machine: "bell" }];
        const LATENCIES: &'static [Metric] = &[Metric { name: "bell_seconds", help: "Its time." }];

        fn nth(&self) -> usize {
            0
        }

        fn took(&self) -> Option<(usize, Duration)> {
            Some((0, Duration::from_millis(1)))
        }
    }

    impl Machine for Other {
        type Fact = Bell;

        const GAUGES: &'static [Metric] = &[Metric { name: "bell_height", help: "Of the tower." }];

        fn handle(&mut self, _: Now, _: Input, _: &mut Vec<Output<Bell>>) -> Next {
            Next::Exit
        }

        fn blocking_queries(&self) -> usize {
            0
        }

        fn gauges(&self) -> impl Iterator<Item = u64> {
            [47].into_iter()
        }

        fn status(&self) -> Status {
            Status { text: "", stopping: false }
        }

        fn exit(&self) -> ExitReason {
            ExitReason::Stopped
        }
    }

    #[test]
    fn any_machine_s_gauges_and_facts_are_beside_the_host_s_own() {
        let metrics = Metrics::of::<Other>(Clock::new());
        metrics.observe(Other.gauges());
        metrics.record(&Bell);
        metrics.record(&Fact::Stopped {});
        assert_eq!((metrics.seen(&Bell), metrics.seen(&Fact::Stopped {})), (1, 1));
        let text = metrics.render(0);
        for line in [
            "bell_height 47",
            "bell_seconds_count 1",
            "hax_facts_total{fact=\"Rang\",level=\"debug\",machine=\"bell\"} 1",
            "hax_facts_total{fact=\"Stopped\",level=\"info\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}: {text}");
        }
        assert!(!text.contains("hax_leading"), "that is another machine's");
    }
}
