use super::*;

#[test]
fn prints_what_was_counted() {
    let hub: UpstreamName = "docker.io".parse().unwrap();
    let metrics = Metrics::new(std::slice::from_ref(&hub));
    metrics.request_began();
    metrics.request_began();
    metrics.request_ended(&Answered {
        kind: "blob",
        status: Some(206),
        outcome: Some(Outcome::Joined),
        bytes: 100,
        duration: Duration::from_millis(3),
        aborted: true,
        upstream: Some(&hub),
        is_pull: false,
    });
    metrics.fill_started(&hub);
    metrics.fill_joined(&hub);
    let upstream = UpstreamSample {
        name: hub,
        rate_limit: Some((100, 42)),
        circuit_open: true,
        requests: vec![("manifest", 3), ("token", 1)],
        retries: 1,
        errors: 2,
        untrue: 0,
        received: 4096,
    };
    let sample = Sample {
        cache_bytes: u64::MAX,
        cache_blobs: 7,
        hosted_bytes: 70,
        hosted_blobs: 2,
        cache_life: CacheLife {
            reserved: 10,
            parked: 20,
            pinned: 30,
            turn: Some(3600),
            evicted: vec![("cap", 5), ("floor", 0), ("trim", 6)],
            refetched: 4,
            room_waits: vec![("granted", 2), ("refused", 1)],
        },
        scrubbed: 900,
        rotten: vec![("cached", "scrub", 3), ("hosted", "second_look", 0)],
        fills_active: 1,
        upstreams: vec![upstream],
    };
    metrics.encode(&sample);
    let text = metrics.encode(&sample);
    for line in [
        "lanyard_requests_total{kind=\"blob\",code=\"2xx\",outcome=\"joined\"} 1",
        "lanyard_requests_aborted_total 1",
        "lanyard_sent_bytes_total 100",
        "lanyard_requests_in_flight 1",
        "lanyard_request_duration_seconds_count{kind=\"blob\"} 1",
        "lanyard_upstream_received_bytes_total{upstream=\"docker.io\"} 4096",
        "lanyard_upstream_requests_total{upstream=\"docker.io\",kind=\"manifest\"} 3",
        "lanyard_upstream_requests_total{upstream=\"docker.io\",kind=\"token\"} 1",
        "lanyard_upstream_retries_total{upstream=\"docker.io\"} 1",
        "lanyard_upstream_errors_total{upstream=\"docker.io\"} 2",
        "lanyard_upstream_untrue_total{upstream=\"docker.io\"} 0",
        "lanyard_fills_total{upstream=\"docker.io\"} 1",
        "lanyard_fill_joins_total{upstream=\"docker.io\"} 1",
        "lanyard_fills_failed_total{upstream=\"docker.io\"} 0",
        "lanyard_cache_bytes{part=\"cached\"} 9223372036854775807",
        "lanyard_cache_bytes{part=\"reserved\"} 10",
        "lanyard_cache_bytes{part=\"parked\"} 20",
        "lanyard_cache_bytes{part=\"pinned\"} 30",
        "lanyard_turn_seconds 3600",
        "lanyard_evicted_bytes_total{why=\"cap\"} 5",
        "lanyard_evicted_bytes_total{why=\"trim\"} 6",
        "lanyard_refetched_bytes_total 4",
        "lanyard_room_waits_total{outcome=\"granted\"} 2",
        "lanyard_cache_blobs 7",
        "lanyard_hosted_bytes 70",
        "lanyard_hosted_blobs 2",
        "lanyard_scrubbed_bytes_total 900",
        "lanyard_rotten_total{what=\"cached\",by=\"scrub\"} 3",
        "lanyard_rotten_total{what=\"hosted\",by=\"second_look\"} 0",
        "lanyard_fills_active 1",
        "lanyard_upstream_ratelimit_limit{upstream=\"docker.io\"} 100",
        "lanyard_upstream_ratelimit_remaining{upstream=\"docker.io\"} 42",
        "lanyard_upstream_circuit_open{upstream=\"docker.io\"} 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
    assert!(text.contains("lanyard_build_info{version="));
    assert!(text.contains("lanyard_uptime_seconds "));
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn statuses_have_classes() {
    assert_eq!([None, Some(200), Some(304), Some(416), Some(502)].map(class), ["none", "2xx", "3xx", "4xx", "5xx"]);
}
