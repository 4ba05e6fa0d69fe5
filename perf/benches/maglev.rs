//! Building Maglev tables. The target: 65,537 slots for 1,000 backends in under 1.8 ms.
#![allow(missing_docs, reason = "criterion's macros make items without documentation")]

use std::net::Ipv4Addr;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use ringway_shared::maglev::Maglev;
use ringway_shared::{Backend, BackendId};

fn build(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("maglev_build");
    for (backends, slots) in [(10, 1_009), (100, 10_007), (1_000, 65_537), (10_000, 65_537)] {
        let backend = |n: u32| Backend {
            id: BackendId(n),
            address: Ipv4Addr::from_bits(0x0ab4_0000 + n).into(),
            port: 8080,
            weight: 1,
        };
        let list: Vec<Backend> = (0..backends).map(backend).collect();
        group.bench_function(BenchmarkId::from_parameter(format!("{backends}x{slots}")), |bencher| {
            bencher.iter(|| Maglev::build(std::hint::black_box(&list), slots));
        });
    }
    group.finish();
}

fn lookup(criterion: &mut Criterion) {
    let backend = |n: u32| Backend { id: BackendId(n), address: Ipv4Addr::from_bits(n).into(), port: 80, weight: 1 };
    let table = Maglev::for_backends(&(0..100).map(backend).collect::<Vec<_>>());
    let mut hash = 1_u64;
    criterion.bench_function("maglev_lookup", |bencher| {
        bencher.iter(|| {
            hash = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
            table.lookup(hash)
        });
    });
}

criterion_group!(benches, build, lookup);
criterion_main!(benches);
