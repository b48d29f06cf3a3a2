//! Scripts that are worth playing every time, at every class of provider.

use super::class::Class;
use super::event::Answer::{Lost, Refused};
use super::event::Ask::{Plain, RejectedLatest};
use super::event::{Event, SPOOLED_MS};
use super::play;

fn at_every_class(script: &[Event]) {
    for class in [Class::Static, Class::MultiValid, Class::SingleUse, Class::Grace, Class::KillsFamily] {
        if let Err(broken) = play(class, script) {
            panic!("{class:?}: {broken}");
        }
    }
}

const fn ask(account: usize, how: super::event::Ask) -> Event {
    Event::Ask { account, how, callers: 2 }
}

#[test]
fn what_could_not_be_stored_outlives_the_daemon() {
    let lock = Event::Lock { for_ms: SPOOLED_MS * 2, mid_flight: true };
    let crash = Event::Crash { asked: None, after_ms: SPOOLED_MS };
    at_every_class(&[ask(0, Plain), lock, crash, ask(0, Plain), ask(0, RejectedLatest)]);
}

#[test]
fn one_refusal_that_was_none_condemns_nobody() {
    let refused = Event::Next { answer: Refused };
    at_every_class(&[ask(0, Plain), refused, ask(0, RejectedLatest), Event::Pass { seconds: 15 }, Event::Tick]);
}

#[test]
fn an_answer_that_was_lost_is_called_by_its_name() {
    let lost = Event::Next { answer: Lost };
    at_every_class(&[
        ask(0, Plain),
        lost,
        ask(0, RejectedLatest),
        Event::Stop,
        Event::Pass { seconds: 60 },
        Event::Tick,
    ]);
}

#[test]
fn an_old_copy_sends_nothing_though_the_spool_knows_better() {
    let put_back = || Event::PutBack { crash: true };
    let renewed = || ask(0, RejectedLatest);
    let time = || Event::Pass { seconds: 2400 };
    at_every_class(&[
        ask(0, Plain),
        Event::Copy,
        renewed(),
        renewed(),
        put_back(),
        time(),
        Event::Tick,
        renewed(),
        Event::Stop,
        Event::Tick,
        Event::Accept,
        Event::Tick,
        renewed(),
        renewed(),
        Event::Stop,
        renewed(),
    ]);
}

#[test]
fn an_old_copy_of_an_earlier_consent_gives_way_to_a_new_one() {
    let again = || Event::Connect { account: 0, mid_flight: true };
    let put_back = Event::PutBack { crash: true };
    at_every_class(&[
        ask(0, Plain),
        Event::Copy,
        again(),
        ask(0, Plain),
        put_back,
        again(),
        ask(0, RejectedLatest),
        Event::Stop,
    ]);
}

#[test]
fn an_old_copy_from_before_the_clock_was_set_back_hands_out_nothing_dead() {
    let set = |seconds| Event::Set { seconds };
    for later in [&[][..], &[Event::Stop], &[Event::Accept, Event::Stop]] {
        let mut script = vec![
            ask(0, Plain),
            Event::Copy,
            set(-1800),
            Event::Connect { account: 0, mid_flight: true },
            Event::Pass { seconds: 3000 },
            Event::PutBack { crash: true },
        ];
        script.extend(later.iter().cloned());
        script.extend([Event::Pass { seconds: 900 }, ask(0, Plain), ask(0, RejectedLatest), set(1800), ask(0, Plain)]);
        at_every_class(&script);
    }
}

#[test]
fn a_restart_does_not_forget_that_the_clock_was_set_back() {
    let crash = Event::Crash { asked: None, after_ms: SPOOLED_MS };
    for again in [Event::Stop, crash] {
        at_every_class(&[
            ask(0, Plain),
            Event::Pass { seconds: 600 },
            Event::Set { seconds: -300 },
            Event::Tick,
            again,
            Event::Pass { seconds: 3200 },
            ask(0, Plain),
        ]);
    }
}
