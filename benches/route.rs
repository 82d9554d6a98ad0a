//! Cost of canonicalising a target and of looking up its route, with 10, 1,000 and 10,000 routes.
//!
//! Lookup must not grow faster than the logarithm of the number of routes; the target is
//! 300 ns with 10,000 routes and 150 ns for a clean target.

#![allow(clippy::unwrap_used, missing_docs, reason = "a bench fails loudly and has no callers")]

#[path = "route/table.rs"]
mod table;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use http::HeaderMap;
use obo_gateway::route::Target;

use crate::table::{ROUTES_OF_A_SERVICE, request, table, target};

fn canonicalise(c: &mut Criterion) {
    let mut group = c.benchmark_group("target");
    for (name, path) in [
        ("clean", "/graph/v1.0/me/messages/AAMkAGI2/attachments?$select=id&$top=10"),
        ("escapes", "/graph/v1.0/me/drive/root:/My%20Documents/%C3%A9t%C3%A9.txt"),
        ("dots", "/graph/v1.0/../v1.0/./me//messages"),
    ] {
        let request = request(path);
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

criterion_group!(benches, canonicalise, find);
criterion_main!(benches);
