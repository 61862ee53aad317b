//! The core's paths in time. `cargo bench -p hax-benches`; docs/PERFORMANCE.md says what is to be
//! reached.

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
    measurement::WallTime,
};
use hax_benches::peers::Peers;
use hax_benches::rig::{Rig, clock};
use hax_benches::{plain, scenes, shapes};
use hax_core::base::fid::{Fid, Object};
use hax_core::cluster::{Changes, Cluster};
use hax_core::wire::codec::frame::Frames;
use hax_core::wire::codec::packet;
use hax_sim::cluster::Shape;

/// Requests of a storm.
const STORM: usize = 10_000;

fn group<'a>(c: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = c.benchmark_group(name);
    group.sample_size(20).warm_up_time(Duration::from_millis(300));
    group.measurement_time(Duration::from_secs(1));
    group
}

/// So many times what one takes in the middle: where something else has the processor in between,
/// that is not the scene's.
fn repeat(n: u64, scene: impl FnMut(u64) -> Duration) -> Duration {
    let mut all: Vec<Duration> = (0..n).map(scene).collect();
    all.sort_unstable();
    all[all.len() / 2] * u32::try_from(n).unwrap_or(u32::MAX)
}

fn sizes() -> [(&'static str, Shape); 2] {
    [("2,392 objects", shapes::nodes23()), ("100,000 objects", shapes::objects100k())]
}

fn entrypoints(c: &mut Criterion) {
    let mut rig = Rig::new(&shapes::nodes23());
    let mut group = group(c, "entrypoint");
    group.throughput(Throughput::Elements(STORM as u64));
    group.bench_function("storm of 10,000", |b| {
        b.iter_custom(|n| repeat(n, |_| scenes::storm(&mut rig, STORM)));
    });
}

/// What is measured of the bridge in a configuration of either size.
fn configured(c: &mut Criterion) {
    for (size, shape) in sizes() {
        let mut rig = Rig::new(&shape);
        // A confd: an IO service's event writes as many keys as it has disks.
        let process = rig.processes(0)[0];
        let link = rig.link(process);
        rig.rest();
        let probes = scenes::probes(&mut rig, link, process);
        let mut gets = group(c, "nvec get");
        for notes in [1, 64, 1024] {
            let objects = scenes::objects(&rig, notes);
            gets.throughput(Throughput::Elements(notes as u64));
            gets.bench_function(BenchmarkId::new(size, notes), |b| {
                b.iter_custom(|n| {
                    repeat(n, |_| {
                        let question = scenes::question(&mut rig, link, process, &objects);
                        scenes::nvec_get(&mut rig, question, &probes)
                    })
                });
            });
        }
        gets.finish();
        let mut events = group(c, "process event");
        let mut nth = 0;
        events.sample_size(10).bench_function(size, |b| {
            b.iter_custom(|n| {
                repeat(n, |_| {
                    nth += 1;
                    scenes::process_event(&mut rig, link, process, nth)
                })
            });
        });
        events.finish();
        one_key(c, size, &rig);
    }
}

/// One key of the configuration has another value: what is stale is worked out, and nothing else.
fn one_key(c: &mut Criterion, size: &str, rig: &Rig) {
    let mut cluster = loaded(rig);
    let sdevs = cluster.conf().own_objects().filter(|fid| fid.object() == Some(Object::Sdev));
    let sdev = sdevs.last().expect("there are disks");
    let key = cluster.conf().entry(sdev).expect("it is configured").key.to_string();
    let mut group = group(c, "replica, one key");
    let mut index = 1_000_000;
    group.bench_function(size, |b| {
        b.iter(|| {
            index += 1;
            let state = if index % 2 == 0 { "online" } else { "failed" };
            let value = format!(r#"{{"path": "/dev/vdb", "state": "{state}"}}"#);
            cluster.apply_entry(sdev, &key, value.as_bytes(), index);
            let mut news = Changes::default();
            cluster.recompute(false, &mut news);
            assert_eq!(news.notes.len(), 2, "the device and its drive");
            news
        });
    });
}

fn loaded(rig: &Rig) -> Cluster {
    let mut conf = hax_core::cluster::conf::Conf::default();
    for (key, value) in &rig.cluster.kv {
        if let Some(path) = key.strip_prefix("m0conf/") {
            let _pool = conf.apply(path, value.as_bytes(), 1);
        }
    }
    let mut cluster = Cluster::new(Fid::process(0), "ssu1");
    cluster.apply_conf(conf, 1);
    cluster.recompute(true, &mut Changes::default());
    cluster
}

fn payloads(c: &mut Criterion) {
    let mut rig = Rig::new(&shapes::nodes23());
    let mut group = group(c, "watch payload");
    for nodes in [1, 100, 1000] {
        let body = scenes::payload(&mut rig, nodes);
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(BenchmarkId::new("bridge", nodes), |b| {
            b.iter_custom(|n| repeat(n, |_| scenes::post(&mut rig, &body)));
        });
        group.bench_function(BenchmarkId::new("serde_json into plain structs", nodes), |b| {
            b.iter_custom(|n| {
                repeat(n, |_| {
                    let began = clock();
                    black_box(plain::read(black_box(&body)));
                    began.elapsed()
                })
            });
        });
    }
}

fn broadcasts(c: &mut Criterion) {
    let mut group = group(c, "broadcast of 1,024 notes");
    for links in [1, 100, 1000] {
        let mut rig = Rig::new(&shapes::crowded());
        for n in 0..links {
            rig.link(Fid::process(1_000_000 + n as u64));
        }
        rig.rest();
        let mut alive = true;
        group.bench_function(BenchmarkId::new("bridge", links), |b| {
            b.iter_custom(|n| {
                repeat(n, |_| {
                    alive = !alive;
                    let (spent, notes) = scenes::broadcast(&mut rig, alive, links);
                    assert!((1000..=1024).contains(&notes), "{notes} notes");
                    spent
                })
            });
        });
        let mut peers = Peers::new(links);
        group.bench_function(BenchmarkId::new("wire", links), |b| {
            b.iter_custom(|n| repeat(n, |_| scenes::wire_broadcast(&mut peers)));
        });
    }
}

fn wire(c: &mut Criterion) {
    let (src, dst, item) = scenes::item(1024);
    let frame = Bytes::from(packet::encode(src, dst, std::slice::from_ref(&item)));
    let mut group = group(c, "wire, 1,024 notes");
    group.throughput(Throughput::Bytes(frame.len() as u64));
    group.bench_function("encode", |b| {
        b.iter(|| packet::encode(src, dst, std::slice::from_ref(black_box(&item))));
    });
    let mut frames = Frames::default();
    group.bench_function("decode", |b| {
        b.iter(|| {
            frames.feed(black_box(&frame).clone());
            let (_, payload) = frames.cut().expect("a frame").expect("it is whole");
            let items: Vec<_> = packet::decode(&payload).expect("a packet").collect();
            assert!(frames.cut().expect("nothing").is_none());
            items
        });
    });
}

criterion_group!(benches, entrypoints, configured, payloads, broadcasts, wire);
criterion_main!(benches);
