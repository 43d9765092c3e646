//! A metric family whose samples were found by looking.
//!
//! Names and values of labels go through the encoder of the `prometheus`
//! crate like those of the counters, so that nothing a name holds can break a
//! line of the page.

use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

/// A family being filled.
#[derive(Debug)]
pub(super) struct Family {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    labels: &'static [&'static str],
    samples: Vec<Metric>,
}

impl Family {
    /// Values that go up and down.
    pub(super) fn gauge(
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
    ) -> Self {
        Self { name, help, kind: MetricType::GAUGE, labels, samples: Vec::new() }
    }

    /// Values that only go up.
    pub(super) fn counter(
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
    ) -> Self {
        Self { kind: MetricType::COUNTER, ..Self::gauge(name, help, labels) }
    }

    /// Adds a sample; as many values as the family has labels.
    pub(super) fn add(&mut self, values: &[&str], value: f64) {
        assert_eq!(values.len(), self.labels.len(), "{}", self.name);
        let pairs = self.labels.iter().zip(values).map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        });
        let mut sample = Metric::from_label(pairs.collect());
        match self.kind {
            MetricType::COUNTER => sample.set_counter(counter(value)),
            _ => sample.set_gauge(gauge(value)),
        }
        self.samples.push(sample);
    }

    /// The family with this one sample.
    pub(super) fn with(mut self, values: &[&str], value: f64) -> Self {
        self.add(values, value);
        self
    }

    /// The family as the encoder takes it.
    pub(super) fn finish(self) -> MetricFamily {
        let mut family = MetricFamily::default();
        family.set_name(self.name.to_owned());
        family.set_help(self.help.to_owned());
        family.set_field_type(self.kind);
        family.set_metric(self.samples);
        family
    }
}

fn counter(value: f64) -> Counter {
    let mut counter = Counter::default();
    counter.set_value(value);
    counter
}

fn gauge(value: f64) -> Gauge {
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    gauge
}

/// A count as a sample's value: exact up to 2^53, as all of the format's
/// values are floating point.
#[expect(clippy::cast_precision_loss, reason = "the text format has f64 only")]
pub(super) fn value(count: impl TryInto<u64>) -> f64 {
    count.try_into().unwrap_or(u64::MAX) as f64
}
