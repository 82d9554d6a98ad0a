//! Links in bodies that are compressed: what stays compressed, what is damaged, and bombs.

use bytes::Bytes;
use compression_codecs::brotli::params::EncoderParams;
use compression_codecs::core::Level;
use compression_codecs::core::util::PartialBuffer;
use compression_codecs::{
    BrotliDecoder, BrotliEncoder, Decode, DeflateDecoder, DeflateEncoder, Encode, GzipDecoder,
    GzipEncoder, ZlibDecoder, ZlibEncoder,
};
use http::Request;
use http_body_util::BodyExt as _;

use super::{JSON, get, linked, page};
use crate::support::raw_upstream::{RawUpstream, Then};
use crate::support::servers::PeerError;
use crate::support::upstream::{Answer, Upstream};
use crate::support::within;

#[derive(Clone, Copy, Debug)]
enum Coding {
    Gzip,
    Zlib,
    Deflate,
    Brotli,
}

impl Coding {
    const ALL: [(Self, &str); 4] = [
        (Self::Gzip, "gzip"),
        (Self::Zlib, "Deflate"),
        (Self::Deflate, "deflate"),
        (Self::Brotli, "br"),
    ];

    fn pack(self, plain: &[u8]) -> Vec<u8> {
        let level = Level::Precise(6);
        match self {
            Self::Gzip => packed(GzipEncoder::new(level.into()), plain),
            Self::Zlib => packed(ZlibEncoder::new(level.into()), plain),
            Self::Deflate => packed(DeflateEncoder::new(level.into()), plain),
            Self::Brotli => {
                packed(BrotliEncoder::new(EncoderParams::default().quality(level)), plain)
            }
        }
    }

    fn unpack(self, packed: &[u8]) -> Vec<u8> {
        match self {
            Self::Gzip => unpacked(GzipDecoder::new(), packed),
            Self::Zlib => unpacked(ZlibDecoder::new(), packed),
            Self::Deflate => unpacked(DeflateDecoder::new(), packed),
            Self::Brotli => unpacked(BrotliDecoder::new(), packed),
        }
    }
}

fn packed(mut encoder: impl Encode, plain: &[u8]) -> Vec<u8> {
    let mut input = PartialBuffer::new(plain);
    let mut out = PartialBuffer::new(vec![0; plain.len() + 1024]);
    encoder.encode(&mut input, &mut out).unwrap();
    assert!(input.unwritten().is_empty());
    assert!(encoder.finish(&mut out).unwrap());
    out.written().to_vec()
}

fn unpacked(mut decoder: impl Decode, packed: &[u8]) -> Vec<u8> {
    if packed.is_empty() {
        return Vec::new();
    }
    let mut input = PartialBuffer::new(packed);
    let mut out = PartialBuffer::new(vec![0; 1 << 20]);
    // What is there without an end is returned too.
    let _ended = decoder.decode(&mut input, &mut out).unwrap();
    let _flushed = decoder.flush(&mut out).unwrap();
    out.written().to_vec()
}

#[tokio::test]
async fn a_compressed_body_stays_compressed() {
    let upstream = Upstream::start();
    let (sent, expected) = page(&upstream.url(), "http://gw.example:8080");
    let gateway = linked(&upstream.url(), "");
    for (coding, name) in Coding::ALL {
        let whole = coding.pack(sent.as_bytes());
        for size in [1, 10, whole.len()] {
            let (answer, down) = Answer::stream();
            let answer = answer.header("content-type", JSON).header("content-encoding", name);
            let mut answer = Some(answer);
            upstream.answer(move |_| answer.take().unwrap());
            let pieces: Vec<Bytes> = whole.chunks(size).map(Bytes::copy_from_slice).collect();
            let sending = async move {
                for piece in pieces {
                    down.send(Ok(piece)).await.unwrap();
                }
            };
            let mut client = gateway.client().await;
            let (reply, ()) = tokio::join!(get(&mut client, "/g/x", &[]), sending);
            assert_eq!(reply.header("content-encoding"), Some(name));
            let body = String::from_utf8(coding.unpack(&reply.body)).unwrap();
            assert_eq!(body, expected, "{coding:?} in pieces of {size}");
        }
    }
    // Two members of gzip are one body.
    let (first, second) = sent.split_at(sent.len() / 2);
    let both = [Coding::Gzip.pack(first.as_bytes()), Coding::Gzip.pack(second.as_bytes())].concat();
    upstream.answer(move |_| {
        let answer = Answer::ok(both.clone()).header("content-type", JSON);
        answer.header("content-encoding", "gzip")
    });
    let reply = get(&mut gateway.client().await, "/g/x", &[]).await;
    assert_eq!(Coding::Gzip.unpack(&reply.body), expected.as_bytes());
}

#[tokio::test]
async fn nothing_waits_for_the_next_piece() {
    let upstream = Upstream::start();
    let gateway = linked(&upstream.url(), "");
    for (coding, name) in Coding::ALL {
        let (answer, down) = Answer::stream();
        let answer = answer.header("content-type", JSON).header("content-encoding", name);
        let mut answer = Some(answer);
        upstream.answer(move |_| answer.take().unwrap());
        let mut client = gateway.client().await;
        let request = Request::get("/g/x").header("host", "gw.example");
        let request = request.body(crate::support::client::full("")).unwrap();
        // What a flush of the upstream brings can be read by the caller, though no end is there.
        let mut first = Vec::new();
        let encoder: &mut dyn FnMut(&[u8], &mut Vec<u8>) = &mut flushing(coding);
        encoder(b"{\"value\":[1],", &mut first);
        let sending = async { down.send(Ok(first.clone().into())).await.unwrap() };
        let (response, ()) = tokio::join!(client.start(request), sending);
        let mut body = response.unwrap().into_body();
        let mut came = Vec::new();
        while !coding.unpack(&came).starts_with(b"{\"value\":[1],") {
            let frame = within("what was flushed", body.frame()).await.unwrap().unwrap();
            came.extend_from_slice(&frame.into_data().unwrap());
        }
        drop(down);
        // Cut off there, it is an aborted transfer.
        assert!(body.collect().await.is_err(), "{coding:?}");
    }
}

/// Appends to the second what becomes of the first.
type Pack = Box<dyn FnMut(&[u8], &mut Vec<u8>)>;

/// Packs and flushes.
fn flushing(coding: Coding) -> impl FnMut(&[u8], &mut Vec<u8>) {
    fn with(mut encoder: impl Encode) -> impl FnMut(&[u8], &mut Vec<u8>) {
        move |plain, out| {
            let mut input = PartialBuffer::new(plain);
            let mut written = PartialBuffer::new(vec![0; 10_000]);
            encoder.encode(&mut input, &mut written).unwrap();
            assert!(encoder.flush(&mut written).unwrap());
            out.extend_from_slice(written.written());
        }
    }
    let level = Level::Precise(6);
    let encoder: Pack = match coding {
        Coding::Gzip => Box::new(with(GzipEncoder::new(level.into()))),
        Coding::Zlib => Box::new(with(ZlibEncoder::new(level.into()))),
        Coding::Deflate => Box::new(with(DeflateEncoder::new(level.into()))),
        Coding::Brotli => {
            Box::new(with(BrotliEncoder::new(EncoderParams::default().quality(level))))
        }
    };
    encoder
}

#[tokio::test]
async fn what_is_damaged_or_cut_short_never_ends_well() {
    let upstream = Upstream::start();
    let (sent, _) = page(&upstream.url(), "");
    let gateway = linked(&upstream.url(), "");
    for (coding, name) in Coding::ALL {
        let whole = coding.pack(sent.as_bytes());
        let cut = whole[..whole.len() - 1].to_vec();
        let behind = [whole.as_slice(), b"{}"].concat();
        let mut damaged = whole.clone();
        for byte in damaged.iter_mut().skip(12).step_by(7) {
            *byte ^= 0x55;
        }
        for (body, at_once) in
            [(cut, false), (behind, false), (damaged, false), (sent.clone().into_bytes(), true)]
        {
            upstream.answer(move |_| {
                let answer = Answer::ok(body.clone()).header("content-type", JSON);
                answer.header("content-encoding", name)
            });
            let mut client = gateway.client().await;
            let request = Request::get("/g/x").header("host", "gw.example");
            let request = request.body(crate::support::client::full("")).unwrap();
            // What is found before anything was sent can still be said.
            match client.start(request).await {
                Ok(response) if response.status() == 502 => {
                    let said = response.into_body().collect().await.unwrap().to_bytes();
                    let said = String::from_utf8_lossy(&said).into_owned();
                    assert!(said.contains("upstream_unreachable"), "{coding:?}: {said}");
                }
                outcome => {
                    assert!(!(at_once && matches!(coding, Coding::Gzip)), "{coding:?}");
                    // What is found before the head is written takes that with it.
                    if let Ok(response) = outcome {
                        let end = within("the end", response.into_body().collect()).await;
                        assert!(end.is_err(), "{coding:?}");
                    }
                }
            }
        }
    }
    // The upstream goes away within a link.
    let (answer, down) = Answer::stream();
    let mut answer = Some(answer.header("content-type", JSON));
    upstream.answer(move |_| answer.take().unwrap());
    let mut client = gateway.client().await;
    let request = Request::get("/g/x").header("host", "gw.example");
    let request = request.body(crate::support::client::full("")).unwrap();
    let sending = down.send(Ok(Bytes::from_static(b"{\"nextLink\":\"http")));
    let (response, sent) = tokio::join!(client.start(request), sending);
    sent.unwrap();
    let mut body = response.unwrap().into_body();
    let first = within("what is before the link", body.frame()).await.unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), "{\"nextLink\":\"");
    down.send(Err(PeerError::scripted())).await.unwrap();
    assert!(within("the end", body.collect()).await.is_err());
}

#[tokio::test]
async fn only_codings_that_can_be_read_are_asked_for() {
    let upstream = Upstream::start();
    let gateway = linked(&upstream.url(), "");
    let mut client = gateway.client().await;
    for (sent, came) in [
        ("gzip, deflate, br, zstd", "gzip, deflate, br"),
        ("gzip;q=0.5,  BR;q=1", "gzip;q=0.5,  BR;q=1"),
        ("zstd", "identity"),
        ("*", "gzip, deflate, br"),
        ("br;q=0, *;q=0.3", "br;q=0, gzip;q=0.3, deflate;q=0.3"),
        ("identity, *;q=0", "identity, *;q=0"),
        ("", ""),
    ] {
        get(&mut client, "/g/x", &[("accept-encoding", sent)]).await;
        assert_eq!(upstream.last().value("accept-encoding").as_deref(), Some(came), "{sent}");
    }
    get(&mut client, "/g/x", &[]).await;
    assert_eq!(upstream.last().value("accept-encoding"), None);
}

#[tokio::test]
async fn a_bomb_only_streams() {
    let upstream = RawUpstream::start();
    // 64 MiB of one string, in 64 KiB.
    let bomb = {
        let mut pack = flushing(Coding::Gzip);
        let mut out = Vec::new();
        pack(b"{\"x\":\"", &mut out);
        for _ in 0..1024 {
            pack(&vec![b'a'; 64 * 1024], &mut out);
        }
        out
    };
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\n\
         content-length: {}\r\n\r\n",
        bomb.len()
    );
    upstream.answer([head.as_bytes(), &bomb].concat(), Then::Close);
    let gateway = linked(&upstream.url(), "");
    let mut client = gateway.client().await;
    let request = Request::get("/g/x").header("host", "gw.example");
    let response = client.start(request.body(crate::support::client::full("")).unwrap()).await;
    let mut body = response.unwrap().into_body();
    let mut length = 0;
    // Packed again it is small again; without an end it is an aborted transfer.
    while let Some(Ok(frame)) = within("a frame", body.frame()).await {
        length += frame.into_data().map_or(0, |data| data.len());
    }
    assert!(length > 1000 && length < 4 * bomb.len(), "{length} of {}", bomb.len());
    assert_eq!(get(&mut gateway.client().await, "/none", &[]).await.status, 404);
}
