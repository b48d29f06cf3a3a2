//! What sealing costs: a token of 1 KiB sealed, opened, and a state digested.
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use grantd::model::id::{InstanceId, ProviderId, TenantId, Version};
use grantd::seal::{Keyring, Place};

fn seal(criterion: &mut Criterion) {
    let keyring = Keyring::create(&InstanceId::random());
    let provider: ProviderId = "github".parse().expect("a name");
    let tenant = TenantId::local();
    let place = Place {
        tenant: &tenant,
        provider: &provider,
        owner: "cx_EBESExQVFhcYGRobHB0eHw",
        column: "refresh/main",
        version: Version::default(),
    };
    let token = "t".repeat(1024);
    let sealed = keyring.seal(&place, token.as_bytes());

    criterion.bench_function("seal 1 KiB", |bencher| {
        bencher.iter(|| keyring.seal(black_box(&place), black_box(token.as_bytes())));
    });
    criterion.bench_function("open 1 KiB", |bencher| {
        bencher.iter(|| keyring.open(black_box(&place), black_box(&sealed)));
    });
    criterion.bench_function("digest a state", |bencher| {
        bencher.iter(|| keyring.digest("state", black_box(&token.as_bytes()[..43])));
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = seal
}
criterion_main!(benches);
