//! Prometheus' text form: counters, gauges and histograms with their labels.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Label names and values, in the order they are written.
pub(super) type Labels = Vec<(&'static str, String)>;

/// Upper bounds of duration histograms, in seconds (T-409, P-387).
const SECONDS: [u32; 12] = [
    10, 30, 60, 300, 900, 1800, 3600, 5400, 10800, 21600, 43200, 86400,
];

/// Upper bounds of latency histograms, in milliseconds (T-416).
const MILLISECONDS: [u32; 11] = [5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000];

fn bounds(name: &str) -> &'static [u32] {
    if name == super::POD_LATENCY {
        &MILLISECONDS
    } else {
        &SECONDS
    }
}

/// All that is counted as it happens.
#[derive(Default)]
pub(super) struct Series {
    counters: BTreeMap<&'static str, BTreeMap<Labels, u64>>,
    gauges: BTreeMap<&'static str, BTreeMap<Labels, f64>>,
    histograms: BTreeMap<&'static str, BTreeMap<Labels, Histogram>>,
}

#[derive(Default)]
struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    sum: f64,
}

impl Series {
    pub(super) fn add(&mut self, name: &'static str, labels: Labels) {
        *self
            .counters
            .entry(name)
            .or_default()
            .entry(labels)
            .or_insert(0) += 1;
    }

    /// Keeps the last value; a histogram of that name ends, as the configuration changed.
    pub(super) fn set(&mut self, name: &'static str, labels: Labels, value: f64) {
        self.histograms.remove(name);
        self.gauges.entry(name).or_default().insert(labels, value);
    }

    /// Adds to a histogram; a gauge of that name ends, as the configuration changed.
    pub(super) fn observe(&mut self, name: &'static str, labels: Labels, value: f64) {
        self.gauges.remove(name);
        let histogram = self
            .histograms
            .entry(name)
            .or_default()
            .entry(labels)
            .or_default();
        let bounds = bounds(name);
        histogram.buckets.resize(bounds.len(), 0);
        histogram.count += 1;
        histogram.sum += value;
        for (bucket, bound) in histogram.buckets.iter_mut().zip(bounds) {
            if value <= f64::from(*bound) {
                *bucket += 1;
            }
        }
    }

    pub(super) fn write(&self, page: &mut Page) {
        for (name, series) in &self.counters {
            page.head(name, help(name), "counter");
            for (labels, value) in series {
                page.sample(name, labels, None, *value as f64);
            }
        }
        for (name, series) in &self.gauges {
            page.gauge(
                name,
                help(name),
                series
                    .iter()
                    .map(|(labels, value)| (labels.clone(), *value)),
            );
        }
        for (name, series) in &self.histograms {
            page.head(name, help(name), "histogram");
            for (labels, histogram) in series {
                let buckets = bounds(name).iter().zip(&histogram.buckets);
                let buckets = buckets.map(|(bound, count)| (f64::from(*bound), *count));
                page.histogram(name, labels, buckets, histogram.count, histogram.sum);
            }
        }
    }
}

fn help(name: &str) -> &'static str {
    match name {
        super::TASK_RUN_TOTAL => "Number of taskruns",
        super::PIPELINE_RUN_TOTAL => "Number of pipelineruns",
        super::TASK_RUN_DURATION => "The taskrun's execution time in seconds",
        super::PIPELINE_TASK_RUN_DURATION => "The pipelinerun's taskrun execution time in seconds",
        super::POD_LATENCY => "scheduling latency for the taskrun pods",
        super::PIPELINE_RUN_DURATION => "The pipelinerun's execution time in seconds",
        _ => "",
    }
}

/// The text being written.
pub(super) struct Page {
    text: String,
    /// What OpenTelemetry's exporter names as the source of the samples that follow (T-417).
    pub(super) scope: &'static str,
}

impl Default for Page {
    fn default() -> Self {
        Page {
            text: String::new(),
            scope: "tekton_pipelines_controller",
        }
    }
}

impl Page {
    /// Begins a metric; its samples must follow.
    pub(super) fn head(&mut self, name: &str, help: &str, kind: &str) {
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    /// Writes a gauge with all its samples; none if it has none.
    pub(super) fn gauge(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels, f64)>,
    ) {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return;
        }
        self.head(name, help, "gauge");
        for (labels, value) in samples {
            self.sample(name, &labels, None, value);
        }
    }

    /// Writes a sample of a histogram: how many values were at most each bound, how many there were and their sum.
    pub(super) fn histogram(
        &mut self,
        name: &str,
        labels: &Labels,
        buckets: impl IntoIterator<Item = (f64, u64)>,
        count: u64,
        sum: f64,
    ) {
        let bucket = format!("{name}_bucket");
        for (bound, within) in buckets {
            self.sample(&bucket, labels, Some(&bound.to_string()), within as f64);
        }
        self.sample(&bucket, labels, Some("+Inf"), count as f64);
        self.sample(&format!("{name}_sum"), labels, None, sum);
        self.sample(&format!("{name}_count"), labels, None, count as f64);
    }

    /// Writes one sample.
    pub(super) fn sample(&mut self, name: &str, labels: &Labels, le: Option<&str>, value: f64) {
        let mut pairs: Vec<String> = labels
            .iter()
            .map(|(name, value)| format!("{name}=\"{}\"", escape(value)))
            .collect();
        pairs.push(format!("otel_scope_name=\"{}\"", self.scope));
        if let Some(le) = le {
            pairs.push(format!("le=\"{le}\""));
        }
        let _ = writeln!(self.text, "{name}{{{}}} {value}", pairs.join(","));
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }
}

fn escape(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_into_every_bucket_from_its_value_up() {
        let mut series = Series::default();
        let labels = || vec![("namespace", "a\"b".to_owned())];
        series.observe(super::super::TASK_RUN_DURATION, labels(), 30.0);
        series.observe(super::super::TASK_RUN_DURATION, labels(), 100_000.0);
        let mut page = Page::default();
        series.write(&mut page);
        let text = page.into_text();
        let scope = "otel_scope_name=\"tekton_pipelines_controller\"";
        for line in [
            format!(
                "tekton_pipelines_controller_taskrun_duration_seconds_bucket{{namespace=\"a\\\"b\",{scope},le=\"10\"}} 0"
            ),
            format!(
                "tekton_pipelines_controller_taskrun_duration_seconds_bucket{{namespace=\"a\\\"b\",{scope},le=\"30\"}} 1"
            ),
            format!(
                "tekton_pipelines_controller_taskrun_duration_seconds_bucket{{namespace=\"a\\\"b\",{scope},le=\"86400\"}} 1"
            ),
            format!(
                "tekton_pipelines_controller_taskrun_duration_seconds_bucket{{namespace=\"a\\\"b\",{scope},le=\"+Inf\"}} 2"
            ),
            format!(
                "tekton_pipelines_controller_taskrun_duration_seconds_sum{{namespace=\"a\\\"b\",{scope}}} 100030"
            ),
            format!(
                "tekton_pipelines_controller_taskrun_duration_seconds_count{{namespace=\"a\\\"b\",{scope}}} 2"
            ),
            "# TYPE tekton_pipelines_controller_taskrun_duration_seconds histogram".to_owned(),
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\nnot in\n{text}");
        }
    }

    #[test]
    fn a_changed_duration_type_replaces_histogram_and_gauge_by_each_other() {
        let mut series = Series::default();
        series.observe(super::super::PIPELINE_RUN_DURATION, vec![], 1.0);
        series.set(super::super::PIPELINE_RUN_DURATION, vec![], 2.5);
        let mut page = Page::default();
        series.write(&mut page);
        let text = page.into_text();
        assert!(
            text.contains("duration_seconds gauge") && !text.contains("histogram"),
            "{text}"
        );
    }
}
