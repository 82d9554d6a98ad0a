//! What all Prometheus programs say of their process: memory, processor time, file descriptors.
//!
//! Read from `/proc` when the metrics are; where there is none, they are left out.

use std::{fmt, fs};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Ticks in a second of `/proc/self/stat`: Linux shows 100 to programs whatever the kernel counts.
const TICKS: f64 = 100.0;

/// The collector.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let stat = fs::read_to_string("/proc/self/stat").ok();
        let stat = stat.as_deref().and_then(Stat::read);
        if let Some(stat) = &stat {
            let seconds = ConstCounter::new(stat.processor_seconds);
            let help = "Processor time spent, of the user and of the system";
            let name = "process_cpu_seconds";
            seconds.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
        }
        let started = stat.as_ref().zip(boot_time()).map(|(stat, boot)| boot + stat.began);
        let gauges = [
            ("process_start_time_seconds", "When the process began, since 1970", started),
            ("process_resident_memory_bytes", "Memory in use", resident_bytes()),
            ("process_open_fds", "File descriptors in use", open_files()),
            ("process_max_fds", "File descriptors that there may be", most_files()),
        ];
        for (name, help, value) in gauges {
            let Some(value) = value else { continue };
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        Ok(())
    }
}

/// What `/proc/self/stat` says (proc(5)).
#[derive(Debug, PartialEq)]
struct Stat {
    processor_seconds: f64,
    /// After the machine.
    began: f64,
}

impl Stat {
    fn read(text: &str) -> Option<Self> {
        // The second field is the program's name, which may have spaces and brackets.
        let (_, fields) = text.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        // Counted from the third.
        let ticks = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        Some(Self {
            processor_seconds: (ticks(14)? + ticks(15)?) / TICKS,
            began: ticks(22)? / TICKS,
        })
    }
}

fn boot_time() -> Option<f64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

fn resident_bytes() -> Option<f64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok().map(|kib| kib * 1024.0)
}

fn open_files() -> Option<f64> {
    // Less the one that reads the folder.
    let open = fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1);
    u32::try_from(open).ok().map(f64::from)
}

fn most_files() -> Option<f64> {
    let text = fs::read_to_string("/proc/self/limits").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_moves_no_field() {
        let text = "7 (a) b (c) R 1 7 7 0 -1 4194304 126 0 0 0 150 50 0 0 20 0 1 0 3614706 3133440";
        assert_eq!(Stat::read(text), Some(Stat { processor_seconds: 2.0, began: 36_147.06 }));
        assert_eq!(Stat::read("7 (a) R 1"), None);
        assert_eq!(Stat::read(""), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_process_is_in_the_metrics_under_its_usual_names() {
        let text = crate::observe::Metrics::default().encode();
        for name in [
            "process_cpu_seconds_total ",
            "process_start_time_seconds ",
            "process_resident_memory_bytes ",
            "process_open_fds ",
            "process_max_fds ",
        ] {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let value: f64 = line.unwrap_or_else(|| panic!("{name}\n{text}")).parse().unwrap();
            assert!(value >= 0.0, "{name}{value}");
        }
        assert!(!text.contains("obo_gateway_process"));
    }
}
