//! What one turn of one contender yields.

/// A number with its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    CpuPerTransaction,
    UserPerTransaction,
    Throughput,
    CpuPerConnection,
    UserPerConnection,
    Connections,
    CpuPerGigabyte,
    UserPerGigabyte,
    Seconds,
    Median,
    Percentile99,
    Memory,
    Reads,
    Writes,
    EpollWaits,
    Futexes,
    OtherCalls,
}

impl Metric {
    pub const fn label(self) -> &'static str {
        match self {
            Self::CpuPerTransaction => "CPU per transaction, µs",
            Self::Throughput => "transactions per second",
            Self::CpuPerConnection => "CPU per connection, µs",
            Self::UserPerTransaction | Self::UserPerConnection => "of which in user space, µs",
            Self::Connections => "connections per second",
            Self::CpuPerGigabyte => "CPU per GB, s",
            Self::UserPerGigabyte => "of which in user space, s",
            Self::Seconds => "time per GB, s",
            Self::Median => "latency p50, ms",
            Self::Percentile99 => "latency p99, ms",
            Self::Memory => "memory per idle client, kB",
            Self::Reads => "reads per transaction",
            Self::Writes => "writes per transaction",
            Self::EpollWaits => "epoll_wait per transaction",
            Self::Futexes => "futex per transaction",
            Self::OtherCalls => "other system calls per transaction",
        }
    }

    pub const fn decimals(self) -> usize {
        match self {
            Self::Throughput
            | Self::CpuPerConnection
            | Self::UserPerConnection
            | Self::Connections => 0,
            Self::CpuPerTransaction | Self::UserPerTransaction | Self::Memory => 1,
            Self::CpuPerGigabyte
            | Self::UserPerGigabyte
            | Self::Seconds
            | Self::Median
            | Self::Percentile99
            | Self::Reads
            | Self::Writes => 2,
            Self::EpollWaits | Self::Futexes | Self::OtherCalls => 3,
        }
    }
}

/// The numbers of one turn.
#[derive(Clone, Debug, Default)]
pub struct Sample(Vec<(Metric, f64)>);

impl Sample {
    pub fn with(mut self, metric: Metric, value: f64) -> Self {
        self.0.push((metric, value));
        self
    }

    pub fn value(&self, metric: Metric) -> Option<f64> {
        self.0.iter().find(|(name, _)| *name == metric).map(|(_, value)| *value)
    }

    pub fn metrics(&self) -> impl Iterator<Item = Metric> {
        self.0.iter().map(|(metric, _)| *metric)
    }
}
