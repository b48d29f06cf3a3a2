//! The rules of a lane, in simulated time.

use super::*;
use crate::model::id::{ConnectionId, SlotName};

fn lane(per_second: Option<u32>) -> Arc<Lane> {
    let endpoint = Url::parse("https://as.example/token").unwrap();
    Lanes::default().lane(&endpoint, "client", per_second.map(|number| NonZeroU32::new(number).unwrap()))
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Sends one and tells what became of it.
fn send(lane: &Arc<Lane>, outcome: Outcome, now: Instant) {
    lane.admit(Priority::Caller, now).unwrap().note(outcome, now);
}

/// How long a lane is shut, and why.
fn shut(lane: &Arc<Lane>, now: Instant) -> Option<(u64, Why)> {
    lane.hindrance(Priority::Caller, now).map(|wait| ((wait.until - now).as_secs(), wait.why))
}

#[test]
fn a_rejection_of_one_grant_never_breaks_the_lane() {
    let (lane, now) = (lane(None), Instant::now());
    for _ in 0..900 {
        send(&lane, Outcome::Answered, now);
    }
    assert_eq!(shut(&lane, now), None);
}

#[test]
fn a_broken_lane_tells_everybody_when_to_come_again_and_lets_one_probe_through() {
    let (lane, start) = (lane(None), Instant::now());
    for _ in 0..10 {
        send(&lane, Outcome::Unreachable, start);
    }
    for who in [Priority::Caller, Priority::Background] {
        let wait = lane.admit(who, start).unwrap_err();
        assert_eq!(wait, Wait { until: start + seconds(5), why: Why::Broken });
    }
    let now = start + seconds(5);
    let mut probe = lane.admit(Priority::Caller, now).unwrap();
    assert_eq!(shut(&lane, now), Some((1, Why::Broken)), "the probe may be the caller's, and there is one");
    probe.note(Outcome::Unreachable, now);
    assert_eq!(shut(&lane, now), Some((10, Why::Broken)));

    let now = now + seconds(10);
    send(&lane, Outcome::Answered, now);
    assert_eq!(shut(&lane, now), None);
}

#[test]
fn a_probe_that_was_never_sent_leaves_the_next_one_to_somebody_else() {
    for outcome in [Outcome::Registration, Outcome::Unreachable] {
        let (lane, start) = (lane(None), Instant::now());
        for _ in 0..10 {
            if shut(&lane, start).is_none() {
                send(&lane, outcome, start);
            }
        }
        let now = start + seconds(60);
        drop(lane.admit(Priority::Background, now).unwrap());
        assert_eq!(shut(&lane, now), None, "{outcome:?}");
    }
}

#[test]
fn a_late_answer_of_another_request_is_not_the_probes() {
    let (lane, start) = (lane(None), Instant::now());
    let (mut late, mut later) =
        (lane.admit(Priority::Caller, start).unwrap(), lane.admit(Priority::Caller, start).unwrap());
    for _ in 0..10 {
        send(&lane, Outcome::Unreachable, start);
    }
    late.note(Outcome::Answered, start);
    later.note(Outcome::Unreachable, start);
    assert_eq!(shut(&lane, start), Some((5, Why::Broken)));
}

#[test]
fn retry_after_is_believed_within_limits() {
    for (asked, paused) in [(0, 1), (1, 1), (120, 120), (3600, 3600), (86_400, 3600)] {
        let (lane, now) = (lane(None), Instant::now());
        send(&lane, Outcome::Throttled(Some(seconds(asked))), now);
        assert_eq!(shut(&lane, now), Some((paused, Why::Throttled)), "{asked}");
        assert_eq!(shut(&lane, now + seconds(paused)), None, "{asked}");
    }
}

#[test]
fn without_retry_after_the_pause_doubles_to_a_minute_and_starts_anew_after_an_answer() {
    let (lane, mut now) = (lane(None), Instant::now());
    for pause in [5, 10, 20, 40, 60, 60] {
        send(&lane, Outcome::Throttled(None), now);
        assert_eq!(shut(&lane, now), Some((pause, Why::Throttled)));
        now += seconds(pause);
    }
    send(&lane, Outcome::Answered, now);
    send(&lane, Outcome::Throttled(None), now);
    assert_eq!(shut(&lane, now), Some((5, Why::Throttled)));
}

#[test]
fn those_who_are_throttled_together_count_as_one_and_a_pause_never_gets_shorter() {
    let (lane, now) = (lane(None), Instant::now());
    let mut places: Vec<Place> = (0..64).map(|_| lane.admit(Priority::Background, now).unwrap()).collect();
    for place in places.drain(..60) {
        { place }.note(Outcome::Throttled(None), now);
    }
    assert_eq!(shut(&lane, now), Some((5, Why::Throttled)));
    for (outcome, pause) in [
        (Outcome::Throttled(Some(seconds(30))), 30),
        (Outcome::Throttled(Some(seconds(7))), 30),
        (Outcome::Answered, 30),
        (Outcome::Throttled(None), 30),
    ] {
        places.pop().unwrap().note(outcome, now);
        assert_eq!(shut(&lane, now), Some((pause, Why::Throttled)), "{outcome:?}");
    }
}

#[test]
fn a_refused_registration_pauses_everybody_for_longer_and_longer() {
    let (lane, mut now) = (lane(None), Instant::now());
    for pause in [60, 120, 240, 300, 300] {
        send(&lane, Outcome::Registration, now);
        assert_eq!(shut(&lane, now), Some((pause, Why::Registration)));
        assert_eq!(lane.admit(Priority::Background, now).unwrap_err().why, Why::Registration);
        now += seconds(pause);
    }
    let _probe = lane.admit(Priority::Background, now).unwrap();
    assert_eq!(shut(&lane, now), Some((1, Why::Registration)), "one probe");
}

#[test]
fn a_probe_of_a_registration_that_brings_no_word_on_it_leaves_it_open_whether_it_is_good() {
    for outcome in [Outcome::Throttled(Some(seconds(3))), Outcome::Unreachable] {
        let (lane, start) = (lane(None), Instant::now());
        send(&lane, Outcome::Registration, start);
        let now = start + seconds(60);
        send(&lane, outcome, now);
        let now = now + seconds(3);
        send(&lane, Outcome::Registration, now);
        assert_eq!(shut(&lane, now), Some((120, Why::Registration)), "{outcome:?}");
        send(&lane, Outcome::Answered, now + seconds(120));
        assert_eq!(shut(&lane, now + seconds(120)), None, "{outcome:?}");
    }
}

#[test]
fn one_grant_of_another_client_does_not_stop_the_others() {
    let (lane, now) = (lane(None), Instant::now());
    for _ in 0..50 {
        send(&lane, Outcome::Answered, now);
        send(&lane, Outcome::Registration, now);
        send(&lane, Outcome::Registration, now);
        assert_eq!(shut(&lane, now), None);
    }
    send(&lane, Outcome::Registration, now);
    assert_eq!(shut(&lane, now), Some((60, Why::Registration)), "three in a row");
}

fn grants<const N: usize>() -> [GrantKey; N] {
    std::array::from_fn(|_| GrantKey { connection: ConnectionId::random(), slot: SlotName::main() })
}

/// Sends for a grant, one of many, and is refused for our client or for it. Says whether it is for it.
fn doubt(lane: &Arc<Lane>, grant: &GrantKey, now: Instant) -> bool {
    lane.admit(Priority::Caller, now).unwrap().doubt(grant, 100, now)
}

#[test]
fn a_grant_that_may_be_dead_does_not_stop_the_others_and_they_show_that_it_is() {
    let (lane, start, [dead, living]) = (lane(None), Instant::now(), grants());
    for at in 0..10 {
        assert!(!doubt(&lane, &dead, start + seconds(at)));
        assert_eq!(shut(&lane, start + seconds(at)), None, "however often");
    }
    lane.admit(Priority::Caller, start + seconds(20)).unwrap().renewed(&living, start + seconds(20));
    assert!(doubt(&lane, &dead, start + seconds(30)));
    assert_eq!((shut(&lane, start + seconds(30)), lane.trouble(start + seconds(30))), (None, None));
}

#[test]
fn several_grants_that_are_refused_with_our_client_stop_the_lane_and_one_that_is_renewed_opens_it() {
    let (lane, start, grants) = (lane(None), Instant::now(), grants::<4>());
    for grant in &grants[..3] {
        assert!(!doubt(&lane, grant, start));
    }
    assert_eq!(shut(&lane, start), Some((60, Why::Registration)));
    let now = start + seconds(60);
    assert!(!doubt(&lane, &grants[0], now));
    assert_eq!(shut(&lane, now), Some((120, Why::Registration)), "the probe was refused too");

    let now = now + seconds(120);
    lane.admit(Priority::Caller, now).unwrap().renewed(&grants[3], now);
    assert_eq!(shut(&lane, now), None);
    for grant in &grants[..3] {
        assert!(doubt(&lane, grant, now + seconds(1)) || *grant == grants[2], "the third in a row is doubtful again");
    }
}

#[test]
fn a_code_shows_what_is_true_of_our_client() {
    let (lane, now, [dead]) = (lane(None), Instant::now(), grants());
    lane.distrust(now);
    assert_eq!(shut(&lane, now), Some((60, Why::Registration)));
    assert!(!doubt(&lane, &dead, now + seconds(60)));
    assert_eq!(
        shut(&lane, now + seconds(60)),
        None,
        "a probe that may mean a grant tells nothing, and the next one may go"
    );
    lane.vouch(now + seconds(61));
    assert_eq!(lane.trouble(now + seconds(61)), None);
    assert!(doubt(&lane, &dead, now + seconds(62)));
}

#[test]
fn a_reload_lets_a_refused_registration_try_again_and_nothing_else() {
    let (lanes, now) = (Lanes::default(), Instant::now());
    let lane = |name: &str| lanes.lane(&Url::parse("https://as.example/token").unwrap(), name, None);
    send(&lane("registration"), Outcome::Registration, now);
    send(&lane("throttled"), Outcome::Throttled(Some(seconds(9))), now);
    lanes.reset_registration();
    assert_eq!(shut(&lane("registration"), now), None);
    assert_eq!(shut(&lane("throttled"), now), Some((9, Why::Throttled)));

    lanes.retain(|_, client| client == "registration");
    assert_eq!(shut(&lane("throttled"), now), None, "it is another lane");
}

#[test]
fn lanes_are_told_apart_by_endpoint_and_client() {
    let (lanes, now) = (Lanes::default(), Instant::now());
    let lane = |endpoint: &str, client: &str| lanes.lane(&Url::parse(endpoint).unwrap(), client, None);
    send(&lane("https://as.example/token", "one"), Outcome::Registration, now);
    for (endpoint, client, is_shut) in [
        ("https://as.example/token", "one", true),
        ("https://as.example/token", "two", false),
        ("https://as.example/v2/token", "one", false),
        ("https://eu.as.example/token", "one", false),
    ] {
        assert_eq!(shut(&lane(endpoint, client), now).is_some(), is_shut, "{endpoint} {client}");
    }
}

#[test]
fn the_last_quarter_of_the_budget_is_the_callers() {
    // The budget, what of it background work may take, and what is then left for callers.
    for (per_second, background, callers) in [(1, 1, 0), (2, 1, 1), (3, 2, 1), (4, 3, 1), (40, 30, 10)] {
        let (lane, now) = (lane(Some(per_second)), Instant::now());
        for (who, most) in [(Priority::Background, background), (Priority::Caller, callers)] {
            let admitted = std::iter::from_fn(|| lane.admit(who, now).ok()).count();
            assert_eq!(admitted, most, "{who:?} of {per_second}");
            let wait = lane.admit(who, now).unwrap_err();
            assert_eq!(wait, Wait { until: now + seconds(1), why: Why::Budget }, "{who:?} of {per_second}");
        }
        assert!(lane.admit(Priority::Background, now + seconds(1)).is_ok());
    }
}

#[test]
fn nobody_is_slowed_where_the_definition_says_nothing() {
    let (lane, now) = (lane(None), Instant::now());
    for _ in 0..1000 {
        send(&lane, Outcome::Answered, now);
    }
    assert_eq!(lane.admit(Priority::Caller, now).unwrap_err().why, Why::Budget);
}

#[test]
fn another_budget_counts_from_the_next_one_on() {
    let (lanes, now) = (Lanes::default(), Instant::now());
    let lane = |per_second| lanes.lane(&Url::parse("https://as.example/").unwrap(), "x", NonZeroU32::new(per_second));
    for _ in 0..5 {
        send(&lane(5), Outcome::Answered, now);
    }
    assert_eq!(shut(&lane(3), now), Some((1, Why::Budget)));
    assert_eq!(shut(&lane(6), now), None);
}

#[test]
fn background_work_takes_half_of_the_places_and_each_comes_back() {
    let (lane, now) = (lane(None), Instant::now());
    let take = |who| std::iter::from_fn(|| lane.admit(who, now).ok()).collect::<Vec<Place>>();
    let background = take(Priority::Background);
    assert_eq!(background.len(), 64);
    assert_eq!(lane.admit(Priority::Background, now).unwrap_err(), Wait { until: now + FULL, why: Why::Full });
    let callers = take(Priority::Caller);
    assert_eq!(callers.len(), 64);
    drop((background, callers));
    assert_eq!(take(Priority::Caller).len(), 128);
}

#[test]
fn of_several_reasons_the_longest_is_told() {
    let (lane, now) = (lane(None), Instant::now());
    let mut other = lane.admit(Priority::Caller, now).unwrap();
    send(&lane, Outcome::Registration, now);
    other.note(Outcome::Throttled(Some(seconds(90))), now);
    assert_eq!(shut(&lane, now), Some((90, Why::Throttled)));
    assert_eq!(shut(&lane, now + seconds(90)), None);
}

#[test]
fn what_is_wrong_is_told_with_its_beginning_and_what_an_operator_can_mend_comes_first() {
    let (lane, start) = (lane(None), Instant::now());
    let trouble = |now| lane.trouble(now).map(|found| (found.why, found.since - start, found.until.map(|at| at - now)));
    send(&lane, Outcome::Answered, start);
    assert_eq!(trouble(start), None);

    send(&lane, Outcome::Throttled(Some(seconds(30))), start);
    assert_eq!(trouble(start), Some((Why::Throttled, seconds(0), Some(seconds(30)))));
    assert_eq!(trouble(start + seconds(30)), None);

    let silent = start + seconds(40);
    for failures in 1..=10 {
        send(&lane, Outcome::Unreachable, silent + seconds(failures));
        let until = (failures == 10).then_some(seconds(5));
        let expected = (failures >= 3).then_some((Why::Broken, seconds(41), until));
        assert_eq!(trouble(silent + seconds(failures)), expected, "{failures}");
    }
    // A probe is answered, but the registration is refused; however often it is probed, it is refused since then.
    let refused = silent + seconds(20);
    send(&lane, Outcome::Registration, refused);
    assert_eq!(trouble(refused), Some((Why::Registration, seconds(60), Some(seconds(60)))));
    send(&lane, Outcome::Registration, refused + seconds(60));
    assert_eq!(trouble(refused + seconds(60)), Some((Why::Registration, seconds(60), Some(seconds(120)))));
    assert_eq!(
        trouble(refused + seconds(500)),
        Some((Why::Registration, seconds(60), None)),
        "until a probe says more"
    );
    lane.reset_registration();
    assert_eq!(trouble(refused + seconds(60)), None);
}
