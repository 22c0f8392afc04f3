//! Many clicks at once: nothing is lost, and every mask is the one that a lone click gets.
use crate::client::{Server, find, volume};
use serde_json::{Value, json};

/// Clicks on all slices, at several places.
fn clicks() -> Vec<Value> {
    (0..25)
        .map(|n| {
            let k = n % 6;
            json!({ "foreground": [[26 + n % 9, 14 + n % 7, k]], "background": [[4 + n % 3, 5, k]], "slice": k,
                "label": if n % 2 == 0 { "liver" } else { "Segment_1" } })
        })
        .collect()
}

#[test]
fn two_hundred_clicks_of_eight_clients_are_those_of_one() {
    let alone = Server::start(&[]);
    alone.upload("case_a");
    let expected: Vec<Vec<u8>> = clicks().iter().map(|c| alone.infer("embedded-click", "case_a", c).voxels()).collect();
    assert!(expected.iter().any(|m| m.contains(&1)));
    drop(alone);
    // A small store of readings, so that slices are forgotten and read again in between.
    let server = Server::start(&["--cache", "12MiB"]);
    server.upload("case_a");
    std::thread::scope(|scope| {
        for client in 0..8 {
            let (server, expected) = (&server, &expected);
            scope.spawn(move || {
                let order: Vec<usize> = (0..25).map(|n| (n * 7 + client * 3) % 25).collect();
                for n in order {
                    let answer = server.infer("embedded-click", "case_a", &clicks()[n]);
                    assert_eq!(answer.status, 200);
                    assert!(answer.voxels() == expected[n], "client {client}, click {n}");
                }
            });
        }
    });
    let metrics = String::from_utf8(server.get("/metrics").body).unwrap();
    assert!(metrics.contains("volseg_inference_seconds_count 200"), "{metrics}");
}

#[test]
fn a_full_queue_says_so() {
    let server = Server::start(&["--queue", "1"]);
    server.upload("case_a");
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let ask = || server.infer("embedded-auto", "case_a", &json!({})).status;
        let all: Vec<_> = (0..12).map(|_| scope.spawn(ask)).collect();
        all.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert!(statuses.iter().all(|s| [200, 429].contains(s)), "{statuses:?}");
    assert!(statuses.contains(&200) && statuses.contains(&429), "{statuses:?}");
}

#[test]
fn a_click_on_the_page_is_the_click_in_slicer() {
    let server = Server::start(&[]);
    server.upload("case_a");
    let told = server.get("/volseg/image?image=case_a").json();
    assert_eq!((told["slices"].as_u64(), told["size"].clone()), (Some(6), json!([48, 40])));
    let question = json!({ "image": "case_a", "plane": "axial", "slice": 3, "points": [[30, 18, 1]] });
    let mask = server.json("POST", "/volseg/mask", &question).json();
    let pixels = mask["pixels"].as_u64().unwrap();
    let voxels = server.infer("embedded-click", "case_a", &json!({ "foreground": [[30, 18, 3]] })).voxels();
    assert_eq!(pixels as usize, voxels.iter().filter(|v| **v != 0).count());
    let png = server.get("/volseg/slice?image=case_a&slice=3&low=-160&high=240");
    let picture = image::load_from_memory(&png.body).unwrap();
    assert_eq!((picture.width(), picture.height()), (48, 40));
    for (question, status) in [
        (json!({ "image": "nobody", "slice": 3, "points": [[30, 18, 1]] }), 404),
        (json!({ "image": "case_a", "slice": 9, "points": [[30, 18, 1]] }), 422),
        (json!({ "image": "case_a", "slice": 3 }), 422),
        (json!({ "image": "case_a", "slice": 3, "box": [5, 5, 2, 9] }), 422),
        (json!({ "image": "case_a", "slice": 3, "points": [[300, 18, 1]] }), 422),
        (json!({ "image": "case_a", "slice": 3, "organ": "soul" }), 422),
        (json!({ "slice": "x" }), 422),
    ] {
        assert_eq!(server.json("POST", "/volseg/mask", &question).status, status, "{question}");
    }
    assert_eq!(server.send("PUT", "/volseg/images", &[("files", Some("a.nrrd"), &volume())]).json()["slices"], 6);
}

/// The volume stored with its slices along the first axis.
fn turned(volume: &[u8]) -> Vec<u8> {
    let data = find(volume, b"\n\n").unwrap() + 2;
    let head = String::from_utf8(volume[..data].to_vec()).unwrap();
    let head = head.replace("sizes: 48 40 6", "sizes: 6 48 40");
    let mut out = head.replace("(-6,0,0) (0,-6,0) (0,0,5)", "(0,0,5) (-6,0,0) (0,-6,0)").into_bytes();
    for n in 0..48 * 40 {
        for k in 0..6 {
            let at = data + 2 * (n + 48 * 40 * k);
            out.extend_from_slice(&volume[at..at + 2]);
        }
    }
    out
}

#[test]
fn a_followed_mask_does_not_depend_on_how_the_volume_is_stored() {
    let server = Server::start(&[]);
    server.upload("as_it_is");
    let put = server.send("PUT", "/datastore/?image=turned", &[("file", Some("t.nrrd"), &turned(&volume()))]);
    assert_eq!(put.status, 200);
    let ask = |image: &str, point: [usize; 3], roi: [usize; 6]| {
        server.infer("embedded-click3d", image, &json!({ "foreground": [point], "roi": roi })).voxels()
    };
    let plain = ask("as_it_is", [30, 18, 3], [23, 37, 11, 25, 1, 4]);
    let turned = ask("turned", [3, 30, 18], [1, 4, 23, 37, 11, 25]);
    assert!(plain.iter().any(|&v| v > 0));
    let same = (0..plain.len()).all(|n| plain[n] == turned[n / (48 * 40) + 6 * (n % (48 * 40))]);
    assert!(
        same,
        "{} and {} voxels",
        plain.iter().filter(|&&v| v > 0).count(),
        turned.iter().filter(|&&v| v > 0).count()
    );
}
