//! The blocks as Prometheus text, format 0.0.4: written by hand, a metric at a time.

use super::{
    cell::{BUCKETS, Histogram, HistogramTotal},
    control::{ControlMetrics, LOG_LINES_DROPPED, ProcessMetrics, StoreMetrics},
    failure::PublishFailure,
    names::{self, Metric},
    shard::ShardMetrics,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    sync::Arc,
};

/// `Content-Type` of what [`render`] makes.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Where the numbers come from.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// One block a shard.
    pub shards: &'a [Arc<ShardMetrics>],
    /// The control thread's.
    pub control: &'a ControlMetrics,
    /// The embedded store's, where it is the backend.
    pub store: Option<&'a StoreMetrics>,
    /// The kernel's, where it could be asked.
    pub process: Option<ProcessMetrics>,
    /// API keys by id, and how many requests came with each.
    pub keys: &'a [(String, u64)],
}

/// All metrics as text.
#[must_use]
pub fn render(sources: Sources<'_>) -> String {
    let mut page = Page { text: String::with_capacity(16 * 1024) };
    page.head(names::BUILD_INFO);
    page.sample(names::BUILD_INFO.name, &[("version", env!("CARGO_PKG_VERSION"))], 1);
    page.single(names::SHARDS, sources.shards.len() as u64);
    drivers(&mut page, sources.shards);
    requests(&mut page, sources.shards);
    failures(&mut page, sources.shards);
    open_streams(&mut page, sources.shards);
    sums(&mut page, sources.shards);
    page.histogram(names::ACKNOWLEDGEMENT, sources.shards.iter().map(|shard| &shard.acknowledgement));
    control(&mut page, sources.control);
    keys(&mut page, sources.keys);
    if let Some(store) = sources.store {
        page.single(names::STORE_COMMITS, store.commits.get());
        page.single(names::STORE_COMMIT_RECORDS, store.commit_records.get());
        page.histogram(names::STORE_FSYNC, [&store.fsync]);
        page.single(names::STORE_READ_ONLY, store.read_only.get());
    }
    page.single(names::LOG_LINES_DROPPED, LOG_LINES_DROPPED.get());
    if let Some(process) = sources.process {
        page.single(names::PROCESS_RESIDENT, process.resident_bytes);
        page.single(names::PROCESS_CPU, process.cpu_seconds);
        page.single(names::PROCESS_START, process.start_seconds);
        page.single(names::PROCESS_FDS, process.open_fds);
    }
    page.text
}

fn drivers(page: &mut Page, shards: &[Arc<ShardMetrics>]) {
    page.head(names::DRIVER_INFO);
    let drivers: BTreeSet<(&str, &str)> = shards
        .iter()
        .filter_map(|shard| shard.driver())
        .map(|info| (info.driver.as_str(), info.reason.as_str()))
        .collect();
    for (driver, reason) in drivers {
        page.sample(names::DRIVER_INFO.name, &[("driver", driver), ("reason", reason)], 1);
    }
}

/// Combinations that never occurred are left out, except 200: a rate needs a first zero to start from.
fn requests(page: &mut Page, shards: &[Arc<ShardMetrics>]) {
    let mut totals = Vec::new();
    for shard in shards {
        for (at, (route, status, count)) in shard.requests().enumerate() {
            match totals.get_mut(at) {
                None => totals.push((route, status, count)),
                Some((_, _, total)) => *total += count,
            }
        }
    }
    page.head(names::REQUESTS);
    for (route, status, count) in totals {
        let text = if status == 0 { "other".to_owned() } else { status.to_string() };
        if count > 0 || status == 200 {
            page.sample(names::REQUESTS.name, &[("route", route.label()), ("status", &text)], count);
        }
    }
}

/// All routes are there from the beginning, also those of which no stream is open.
fn open_streams(page: &mut Page, shards: &[Arc<ShardMetrics>]) {
    page.head(names::OPEN_STREAMS);
    let mut totals: BTreeMap<&str, u64> = BTreeMap::new();
    for (route, count) in shards.iter().flat_map(|shard| shard.open_streams()) {
        *totals.entry(route.label()).or_default() += count;
    }
    for (route, count) in totals {
        page.sample(names::OPEN_STREAMS.name, &[("route", route)], count);
    }
}

/// All reasons are there from the beginning: a rate needs a first zero to start from.
fn failures(page: &mut Page, shards: &[Arc<ShardMetrics>]) {
    page.head(names::PUBLISH_FAILURES);
    for (at, reason) in PublishFailure::ALL.into_iter().enumerate() {
        let count: u64 =
            shards.iter().filter_map(|shard| shard.publish_failures().nth(at)).map(|(_, count)| count).sum();
        page.sample(names::PUBLISH_FAILURES.name, &[("reason", reason.label())], count);
    }
}

fn sums(page: &mut Page, shards: &[Arc<ShardMetrics>]) {
    let mut sum = |metric: Metric, value: fn(&ShardMetrics) -> u64| {
        page.single(metric, shards.iter().map(|shard| value(shard)).sum::<u64>());
    };
    sum(names::RECORDS_IN, |shard| shard.records_in.get());
    sum(names::RECORD_BYTES_IN, |shard| shard.record_bytes_in.get());
    sum(names::RECORDS_OUT, |shard| shard.records_out.get());
    sum(names::READS, |shard| shard.reads.get());
    sum(names::RECORDS_READ, |shard| shard.records_read.get());
    sum(names::RECORD_BYTES_READ, |shard| shard.record_bytes_read.get());
    sum(names::READ_GAPS, |shard| shard.read_gaps.get());
    sum(names::RECORDS_CHECKED, |shard| shard.records_checked.get());
    sum(names::RECORDS_INVALID, |shard| shard.records_invalid.get());
    sum(names::DEAD_LETTERS, |shard| shard.dead_letters.get());
    sum(names::ACKNOWLEDGEMENTS_UNMATCHED, |shard| shard.acknowledgements_unmatched.get());
    sum(names::WINDOW_MESSAGES, |shard| shard.window_messages.get());
    sum(names::WINDOW_BYTES, |shard| shard.window_bytes.get());
    sum(names::WINDOW_MESSAGES_LIMIT, |shard| shard.window_messages_limit.get());
    sum(names::WINDOW_BYTES_LIMIT, |shard| shard.window_bytes_limit.get());
    sum(names::WINDOW_FULL, |shard| shard.window_full.get());
    sum(names::TOKEN_CACHE_HITS, |shard| shard.token_cache_hits.get());
    sum(names::TOKEN_CACHE_MISSES, |shard| shard.token_cache_misses.get());
    sum(names::CONNECTIONS_OPEN, |shard| shard.connections_open.get());
    sum(names::CONNECTIONS_ACCEPTED, |shard| shard.connections_accepted.get());
    sum(names::CONNECTIONS_REFUSED, |shard| shard.connections_refused.get());
    sum(names::CONNECTIONS_TIMED_OUT, |shard| shard.connections_timed_out.get());
    sum(names::BODY_BYTES_HELD, |shard| shard.body_bytes_held.get());
    sum(names::OPEN_DELIVERIES, |shard| shard.open_deliveries.get());
    sum(names::BROKER_RECONNECTS, |shard| shard.reconnects.get());
    sum(names::BROKER_LINKS_UP, |shard| shard.link_up.get());
    sum(names::BROKER_LINKS_FAILING, |shard| shard.link_failing.get());
    sum(names::STATIONS_KNOWN, |shard| shard.stations_known.get());
    sum(names::QUESTIONS, |shard| shard.questions.get());
}

fn control(page: &mut Page, control: &ControlMetrics) {
    page.head(names::LOGINS);
    for (result, count) in control.logins() {
        page.sample(names::LOGINS.name, &[("result", result.label())], count);
    }
    page.head(names::ANSWERS);
    for (kind, [refused, succeeded]) in control.answers() {
        page.sample(names::ANSWERS.name, &[("kind", kind.label()), ("result", "ok")], succeeded);
        page.sample(names::ANSWERS.name, &[("kind", kind.label()), ("result", "error")], refused);
    }
    page.single(names::REGISTRY_REVISION, control.registry_revision.get());
    page.single(names::REGISTRY_CONFIRMED, control.registry_confirmed.get());
    page.single(names::USERS, control.users.get());
    page.single(names::SCHEMAS, control.schemas.get());
    page.single(names::STATION_DOCUMENTS, control.stations.get());
    page.single(names::KEYS, control.keys.get());
    page.single(names::DOCUMENTS_REFUSED, control.documents_refused.get());
    page.single(names::CONTROL_BROKER_UP, control.broker_up.get());
    let jetstream_up = control.broker_up.get() != 0 && control.jetstream_trouble() == 0;
    page.single(names::CONTROL_JETSTREAM_UP, u64::from(jetstream_up));
    if let Some(always) = control.sync_always() {
        page.single(names::BROKER_SYNC_ALWAYS, always);
    }
    page.single(names::PUSHES_DROPPED, control.pushes_dropped.get());
}

/// A family without a sample says nothing: without keys it is left out.
fn keys(page: &mut Page, keys: &[(String, u64)]) {
    if !keys.is_empty() {
        page.head(names::KEY_REQUESTS);
    }
    for (id, requests) in keys {
        page.sample(names::KEY_REQUESTS.name, &[("key", id)], *requests);
    }
}

struct Page {
    text: String,
}

/// Writing to a `String` cannot fail: the results are dropped on purpose.
impl Page {
    fn head(&mut self, metric: Metric) {
        let help = metric.help.replace('\\', "\\\\").replace('\n', "\\n");
        let _ = writeln!(self.text, "# HELP {} {help}", metric.name);
        let _ = writeln!(self.text, "# TYPE {} {}", metric.name, metric.kind.word());
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.text.push_str(name);
        for (at, (label, text)) in labels.iter().enumerate() {
            self.text.push(if at == 0 { '{' } else { ',' });
            let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.text, "{label}=\"{escaped}\"");
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }

    fn single(&mut self, metric: Metric, value: impl std::fmt::Display) {
        self.head(metric);
        self.sample(metric.name, &[], value);
    }

    fn histogram<'a>(&mut self, metric: Metric, parts: impl IntoIterator<Item = &'a Histogram>) {
        let mut total = HistogramTotal::default();
        for part in parts {
            part.add_to(&mut total);
        }
        self.head(metric);
        let bounds = BUCKETS.iter().map(|micros| seconds(*micros)).chain(["+Inf".to_owned()]);
        let mut cumulative = 0_u64;
        for (bound, count) in bounds.zip(total.buckets) {
            cumulative = cumulative.wrapping_add(count);
            self.sample(&format!("{}_bucket", metric.name), &[("le", &bound)], cumulative);
        }
        self.sample(&format!("{}_sum", metric.name), &[], seconds(total.sum_micros));
        self.sample(&format!("{}_count", metric.name), &[], cumulative);
    }
}

/// Microseconds as decimal seconds, exactly.
fn seconds(micros: u64) -> String {
    let (whole, rest) = (micros / 1_000_000, micros % 1_000_000);
    if rest == 0 {
        return whole.to_string();
    }
    format!("{whole}.{rest:06}").trim_end_matches('0').to_owned()
}

#[cfg(test)]
mod tests {
    use super::{super::Route, *};
    use std::time::Duration;

    /// One sample line, parsed by the rules of the format: `name{label="value",…} number`.
    type Sample = (String, Vec<(String, String)>, f64);

    fn parse_name(text: &str) -> (&str, &str) {
        let end = text
            .char_indices()
            .find(|(at, c)| !(c.is_ascii_alphabetic() || matches!(c, '_' | ':') || (*at > 0 && c.is_ascii_digit())))
            .map_or(text.len(), |(at, _)| at);
        assert!(end > 0, "a name begins at {text:?}");
        text.split_at(end)
    }

    fn parse_sample(line: &str) -> Sample {
        let (name, mut rest) = parse_name(line);
        let mut labels = Vec::new();
        if let Some(inside) = rest.strip_prefix('{') {
            rest = inside;
            loop {
                let (label, after) = parse_name(rest);
                let mut chars = after.strip_prefix("=\"").expect("a quoted value").char_indices();
                let mut value = String::new();
                let end = loop {
                    match chars.next().expect("a closing quote") {
                        (at, '"') => break at,
                        (_, '\\') => match chars.next().map(|(_, c)| c) {
                            Some('n') => value.push('\n'),
                            Some(c @ ('\\' | '"')) => value.push(c),
                            other => panic!("bad escape {other:?} in {line:?}"),
                        },
                        (_, '\n') => panic!("raw line feed in {line:?}"),
                        (_, c) => value.push(c),
                    }
                };
                labels.push((label.to_owned(), value));
                rest = &after["=\"".len() + end + 1..];
                if let Some(after) = rest.strip_prefix('}') {
                    rest = after;
                    break;
                }
                rest = rest.strip_prefix(',').expect("a comma between labels");
            }
        }
        let number = rest.strip_prefix(' ').expect("one space before the value");
        let value = if number == "+Inf" { f64::INFINITY } else { number.parse().expect("a number") };
        (name.to_owned(), labels, value)
    }

    /// Checks the whole page: HELP then TYPE once for each family, then only its samples.
    fn parse_page(text: &str) -> BTreeMap<String, (String, Vec<Sample>)> {
        assert!(text.ends_with('\n'));
        let mut families: BTreeMap<String, (String, Vec<Sample>)> = BTreeMap::new();
        let (mut announced, mut current) = (String::new(), String::new());
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = parse_name(rest);
                assert!(help.starts_with(' ') && help.len() > 5, "{line}");
                announced = name.to_owned();
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a kind");
                assert_eq!(name, announced, "HELP and TYPE belong together");
                let before = families.insert(name.to_owned(), (kind.to_owned(), Vec::new()));
                assert!(before.is_none(), "{name} occurs twice");
                current = name.to_owned();
            } else {
                let sample = parse_sample(line);
                let (kind, samples) = families.get_mut(&current).expect("a family before its samples");
                let suffixes: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
                assert!(suffixes.iter().any(|suffix| sample.0 == format!("{current}{suffix}")), "{line}");
                if kind == "counter" {
                    assert!(current.ends_with("_total"), "{current} is a counter");
                    assert!(sample.2 >= 0.0);
                }
                assert!(!samples.iter().any(|(name, labels, _)| *name == sample.0 && *labels == sample.1), "{line}");
                samples.push(sample);
            }
        }
        families
    }

    static ROUTES: [Route; 4] = [
        Route::new(1, "produce_single"),
        Route::new(2, "produce_batch"),
        Route::new(3, "consume"),
        Route::of_streams(4, "produce_stream"),
    ];

    fn full_page() -> String {
        let shards = [Arc::new(ShardMetrics::default()), Arc::new(ShardMetrics::default())];
        let [single, batch, _, stream] = ROUTES;
        for shard in &shards {
            shard.set_routes(&ROUTES);
        }
        shards[0].request(single, 200);
        shards[1].request(single, 200);
        shards[1].request(batch, 503);
        shards[0].stream_opened(stream);
        shards[1].stream_opened(stream);
        shards[1].stream_opened(stream);
        shards[1].stream_closed(stream);
        shards[1].request(Route::OTHER, 418);
        shards[0].records_in.add(5);
        shards[1].records_in.add(7);
        shards[0].link_up.set(1);
        shards[0].set_driver("epoll", "io_uring: \"Operation not permitted\"\nC:\\x");
        shards[1].set_driver("epoll", "io_uring: \"Operation not permitted\"\nC:\\x");
        shards[0].acknowledgement.observe_many(Duration::from_micros(400), 3);
        shards[1].acknowledgement.observe(Duration::from_millis(40));
        let (control, store) = (ControlMetrics::default(), StoreMetrics::default());
        control.login(super::super::LoginResult::Refused);
        control.answer(super::super::RequestKind::Station, true);
        control.broker_sync(super::super::BrokerSync::Always);
        let process =
            ProcessMetrics { resident_bytes: 1, cpu_seconds: 1.5, start_seconds: 1_700_000_000.25, open_fds: 9 };
        let keys = [("abcdefghij01".to_owned(), 0), ("abcdefghij02".to_owned(), 41)];
        let process = Some(process);
        render(Sources { shards: &shards, control: &control, store: Some(&store), process, keys: &keys })
    }

    fn value(page: &BTreeMap<String, (String, Vec<Sample>)>, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| page.get(name.strip_suffix(suffix)?));
        let (_, samples) = family.or_else(|| page.get(name))?;
        let matches = |have: &[(String, String)]| {
            have.len() == labels.len() && have.iter().zip(labels).all(|(a, b)| (a.0.as_str(), a.1.as_str()) == *b)
        };
        samples.iter().find(|sample| sample.0 == name && matches(&sample.1)).map(|sample| sample.2)
    }

    #[test]
    fn the_page_parses_and_shards_are_added_up() {
        let page = parse_page(&full_page());
        for (name, labels, expect) in [
            ("sluicegate_shards", &[][..], Some(2.0)),
            ("sluicegate_records_in_total", &[], Some(12.0)),
            ("sluicegate_broker_links_up", &[], Some(1.0)),
            ("sluicegate_requests_total", &[("route", "produce_single"), ("status", "200")], Some(2.0)),
            ("sluicegate_requests_total", &[("route", "produce_batch"), ("status", "503")], Some(1.0)),
            ("sluicegate_requests_total", &[("route", "other"), ("status", "other")], Some(1.0)),
            ("sluicegate_requests_total", &[("route", "consume"), ("status", "200")], Some(0.0)),
            ("sluicegate_requests_total", &[("route", "consume"), ("status", "404")], None),
            ("sluicegate_open_streams", &[("route", "produce_stream")], Some(2.0)),
            ("sluicegate_open_streams", &[("route", "consume")], None),
            ("sluicegate_logins_total", &[("result", "refused")], Some(1.0)),
            ("sluicegate_answers_total", &[("kind", "station"), ("result", "ok")], Some(1.0)),
            ("sluicegate_broker_sync_always", &[], Some(1.0)),
            ("sluicegate_key_requests_total", &[("key", "abcdefghij01")], Some(0.0)),
            ("sluicegate_key_requests_total", &[("key", "abcdefghij02")], Some(41.0)),
            (
                "sluicegate_driver_info",
                &[("driver", "epoll"), ("reason", "io_uring: \"Operation not permitted\"\nC:\\x")],
                Some(1.0),
            ),
            ("sluicegate_acknowledgement_seconds_bucket", &[("le", "0.00025")], Some(0.0)),
            ("sluicegate_acknowledgement_seconds_bucket", &[("le", "0.0005")], Some(3.0)),
            ("sluicegate_acknowledgement_seconds_bucket", &[("le", "0.05")], Some(4.0)),
            ("sluicegate_acknowledgement_seconds_bucket", &[("le", "+Inf")], Some(4.0)),
            ("sluicegate_acknowledgement_seconds_count", &[], Some(4.0)),
            ("sluicegate_acknowledgement_seconds_sum", &[], Some(0.0412)),
            ("process_start_time_seconds", &[], Some(1_700_000_000.25)),
        ] {
            assert_eq!(value(&page, name, labels), expect, "{name} {labels:?}");
        }
    }

    #[test]
    fn every_metric_that_has_a_name_is_exported_and_every_exported_one_has_a_name() {
        let declared: BTreeSet<&str> = include_str!("names.rs")
            .split('"')
            .filter(|text| text.starts_with("sluicegate_") || text.starts_with("process_"))
            .filter(|text| text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'))
            .collect();
        let constants = include_str!("names.rs").lines().filter(|line| line.starts_with("pub const ")).count();
        assert_eq!(declared.len(), constants, "one name for each constant");
        let page = parse_page(&full_page());
        let exported: BTreeSet<&str> = page.keys().map(String::as_str).collect();
        assert_eq!(declared, exported);
        assert!(exported.len() > 30);
        let documented = |name: &str| {
            let whole = |end| include_str!("../../docs/operations.md").contains(&format!("`{name}{end}"));
            whole('`') || whole('{')
        };
        let own = declared.iter().filter(|name| name.starts_with("sluicegate_"));
        let undocumented: Vec<&&str> = own.filter(|name| !documented(name)).collect();
        assert!(undocumented.is_empty(), "{undocumented:?}");
        // A family without a sample says nothing.
        assert!(page.values().all(|(_, samples)| !samples.is_empty()));
    }

    #[test]
    fn the_brokers_sync_mode_is_absent_while_it_is_not_known() {
        use super::super::BrokerSync::{Always, Interval, Unknown};
        let control = ControlMetrics::default();
        let shown = || {
            let text = render(Sources { shards: &[], control: &control, store: None, process: None, keys: &[] });
            text.lines().find_map(|line| line.strip_prefix("sluicegate_broker_sync_always ").map(str::to_owned))
        };
        assert_eq!(shown(), None);
        for (sync, expect) in [(Interval, Some("0")), (Always, Some("1")), (Unknown, None)] {
            control.broker_sync(sync);
            assert_eq!(shown().as_deref(), expect, "{sync:?}");
        }
    }

    #[test]
    fn microseconds_become_exact_decimal_seconds() {
        for (micros, expect) in [
            (0, "0"),
            (100, "0.0001"),
            (2_500, "0.0025"),
            (1_000_000, "1"),
            (10_000_000, "10"),
            (1_234_567, "1.234567"),
            (u64::MAX, "18446744073709.551615"),
        ] {
            assert_eq!(seconds(micros), expect);
        }
    }
}
