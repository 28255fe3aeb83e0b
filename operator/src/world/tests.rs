use super::*;

fn monitor(generation: i64, observed: Option<i64>) -> Seen {
    let status = certmon_crd::CertificateMonitorStatus {
        observed_generation: observed,
        ..Default::default()
    };
    Seen::Monitor(Box::new(Monitor {
        key: Key::new("team", "all"),
        uid: "1".into(),
        generation,
        spec: Err("of no matter".to_owned()),
        check_requested: None,
        test_requested: None,
        status: Some(Box::new(status)),
    }))
}

#[test]
fn a_status_that_is_written_concerns_nobody() {
    let mut world = World::new(vec![]);
    let mut touched = |seen| world.apply(WorldEvent::Applied(WatchId::Monitors, seen));
    let concerned = vec![Touched::Monitor(Key::new("team", "all"))];
    assert_eq!(touched(monitor(1, None)), concerned);
    assert_eq!(touched(monitor(1, Some(1))), vec![]);
    assert_eq!(touched(monitor(2, Some(1))), concerned);
}
