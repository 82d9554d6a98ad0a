//! Cost of canonicalising a path, of all that is done for a target, and of looking up its route
//! among 10, 1,000 and 10,000.
//!
//! Lookup must not grow faster than the logarithm of the number of routes; the aim is 300 ns with
//! 10,000 routes, and 150 ns for a clean path.

#![allow(clippy::unwrap_used, missing_docs, reason = "a bench fails loudly and has no callers")]

/// The product's own file, for what it takes without the rest of [`Target::parse`].
#[allow(dead_code, reason = "the bench calls one function of it")]
#[path = "../src/route/canonical.rs"]
mod canonical;
#[path = "route/table.rs"]
mod table;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use http::HeaderMap;
use obo_gateway::route::Target;

use crate::canonical::canonicalise;
use crate::table::{ROUTES_OF_A_SERVICE, TARGETS, request, table, target};

/// The path alone, which is a part of `targets`.
fn paths(c: &mut Criterion) {
    let mut group = c.benchmark_group("path");
    for (name, target) in TARGETS {
        let path = target.split('?').next().unwrap();
        group.bench_function(name, |b| b.iter(|| canonicalise(black_box(path)).unwrap()));
    }
    group.finish();
}

/// Method, host, framing, path and query.
fn targets(c: &mut Criterion) {
    let mut group = c.benchmark_group("target");
    for (name, target) in TARGETS {
        let request = request(target);
        group.bench_function(name, |b| b.iter(|| Target::parse(black_box(&request)).unwrap()));
    }
    group.finish();
}

fn find(c: &mut Criterion) {
    let mut group = c.benchmark_group("find");
    let headers = HeaderMap::new();
    for routes in [10, 1_000, 10_000] {
        let table = table(routes);
        let last = routes / ROUTES_OF_A_SERVICE - 1;
        for (name, path) in [
            ("named", format!("/service-{last}/items/4711/parts/12")),
            ("rest", format!("/service-{last}/files/a/b/c/d/e/f.txt")),
            ("escapes", format!("/service-{last}/files/My%20Documents/a.txt")),
        ] {
            let target = target(&path);
            group.bench_with_input(BenchmarkId::new(name, routes), &target, |b, target| {
                b.iter(|| black_box(*table.find(black_box(target), &headers).unwrap().route));
            });
        }
        let nowhere = target("/service-x/items/4711");
        group.bench_with_input(BenchmarkId::new("nowhere", routes), &nowhere, |b, target| {
            b.iter(|| black_box(table.find(black_box(target), &headers).is_err()));
        });
    }
    group.finish();
}

criterion_group!(benches, paths, targets, find);
criterion_main!(benches);
