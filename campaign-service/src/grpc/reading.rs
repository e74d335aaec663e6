//! Reading of requests, message by message, before any other work. Limits apply to the size by method, to the time, and
//! to the memory of all requests together. Layers behind this one receive complete messages that can be decoded.

use super::around::{Calling, Middleware};
use super::methods::{DISPATCH_PATH, Kind, Method};
use super::wire::{Input, Problem, Shapes};
use crate::app::error::{Error, Violation};
use bytes::{BufMut, Bytes, BytesMut};
use campaign_process::connections::Peer;
use flate2::read::GzDecoder;
use futures_util::{FutureExt, stream};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use std::collections::VecDeque;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tonic::Status;
use tonic::body::Body;
use tower::Service;

/// Bytes before each message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;
/// Length up to which a message needs no share of the memory, in bytes.
const SMALL_BYTES: usize = 4 * 1024;
/// Bytes of a message that is too long, in which the field that makes it too long is found.
const START_BYTES: usize = 64 * 1024;
/// Factor that most messages do not exceed when they are decompressed.
const LIKELY_RATIO: usize = 16;
/// Divisor of the memory: strangers together have one part in this number.
const STRANGERS_SHARE: usize = 8;
/// Retry delay after there was no memory.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// Limits of messages.
#[derive(Clone, Copy, Debug)]
pub struct ReadingLimits {
    /// Longest time from a message's first bytes to its last, and of a whole request that is not a stream.
    pub message_timeout: Duration,
    /// Most memory for all messages longer than 4 KiB together, in bytes.
    pub max_memory_bytes: usize,
}

/// Layer that reads messages, and passes on those that are complete and can be decoded.
#[derive(Clone, Debug)]
pub struct ReadMessages(Arc<Reading>);

#[derive(Debug)]
struct Reading {
    shapes: Shapes,
    limits: ReadingLimits,
    /// Memory for messages, in KiB.
    memory: Arc<Semaphore>,
    memory_of_strangers: Arc<Semaphore>,
}

/// Errors of messages of a stream that continues. Empty messages take the place of the invalid ones.
#[derive(Clone, Debug, Default)]
pub struct Unread(Arc<Mutex<VecDeque<Error>>>);

impl Unread {
    /// Returns the error of the next message that was replaced by an empty one.
    pub fn next(&self) -> Option<Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    fn note(&self, error: Error) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(error);
    }
}

/// Reason why there is no message.
enum Failure {
    /// Error of this message. The next message may be valid.
    Bad(Error),
    /// End of the request: nothing more can be read.
    End(Status),
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Bad(error) => error.into(),
            Failure::End(status) => status,
        }
    }
}

impl ReadMessages {
    /// Creates the layer for all methods.
    #[must_use]
    pub fn new(limits: ReadingLimits) -> Self {
        let shapes = Shapes::of(&[
            campaign_proto::v1::FILE_DESCRIPTOR_SET,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ]);
        let memory = limits.max_memory_bytes / 1024;
        let [of_known, of_strangers] =
            [memory, memory / STRANGERS_SHARE].map(|most| Arc::new(Semaphore::new(most)));
        Self(Arc::new(Reading {
            shapes,
            limits,
            memory: of_known,
            memory_of_strangers: of_strangers,
        }))
    }
}

impl Middleware for ReadMessages {
    fn call<S>(&self, inner: &mut S, mut request: Request<Body>) -> Calling<S::Error>
    where
        S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Send + 'static,
    {
        // A path that is unknown here is unknown to all layers behind.
        let Some(input) = self.0.shapes.input(request.uri().path()) else {
            return inner.call(request).boxed();
        };
        let encoding = request.headers_mut().remove("grpc-encoding");
        let is_gzip = match encoding.as_ref().map(|value| value.as_bytes()) {
            None | Some(b"identity") => false,
            Some(b"gzip") => true,
            Some(_) => {
                let status = Status::unimplemented("messages may be compressed with gzip only");
                return std::future::ready(Ok(status.into_http())).boxed();
            }
        };
        let Method { path, kind, max_message_bytes, .. } = *Method::at(request.uri().path());
        let goes_on = path == DISPATCH_PATH;
        let mut messages = Messages {
            max_bytes: max_message_bytes,
            kind,
            peer: request.extensions().get().cloned(),
            reading: Arc::clone(&self.0),
            input,
            is_gzip,
            body: std::mem::take(request.body_mut()),
            buffer: BytesMut::new(),
            held: None,
        };
        if input.is_stream {
            let unread = goes_on.then(Unread::default);
            if let Some(unread) = &unread {
                request.extensions_mut().insert(unread.clone());
            }
            *request.body_mut() = messages.into_body(unread);
            return inner.call(request).boxed();
        }
        // The ready service is called; its clone serves the next request.
        let next = inner.clone();
        let mut inner = std::mem::replace(inner, next);
        async move {
            match messages.only().await {
                Ok(message) => *request.body_mut() = Body::new(Full::new(message)),
                Err(failure) => return Ok(Status::from(failure).into_http()),
            }
            let answer = inner.call(request).await;
            // The message's memory is in use until the answer.
            drop(messages);
            answer
        }
        .boxed()
    }
}

/// Messages of one request.
struct Messages {
    reading: Arc<Reading>,
    peer: Option<Arc<Peer>>,
    kind: Kind,
    input: Input,
    max_bytes: usize,
    is_gzip: bool,
    body: Body,
    /// Bytes that were read and not yet passed on.
    buffer: BytesMut,
    /// Memory of the message that was passed on last.
    held: Option<OwnedSemaphorePermit>,
}

impl Messages {
    /// Returns the only message of a request that is not a stream.
    async fn only(&mut self) -> Result<Bytes, Failure> {
        let limit = self.reading.limits.message_timeout;
        let reading = async {
            let Some(message) = self.next().await? else {
                return Err(Failure::Bad(Error::invalid("message", "must be sent")));
            };
            // The request is read to its end, so that no byte of it comes after the answer.
            while self.more().await? {
                if !self.buffer.is_empty() {
                    return Err(Failure::Bad(Error::invalid("message", "must be the only one")));
                }
            }
            Ok(message)
        };
        timeout(limit, reading).await.unwrap_or_else(|_| Err(late()))
    }

    /// Returns the messages as the body of a request. If `unread` takes the errors, invalid messages
    /// do not end the body.
    fn into_body(self, unread: Option<Unread>) -> Body {
        let frames = stream::unfold(Some((self, unread)), |state| async {
            let (mut messages, unread) = state?;
            let message = match (messages.next().await, &unread) {
                (Err(Failure::Bad(error)), Some(unread)) => {
                    unread.note(error);
                    Ok(Some(framed(&[])))
                }
                (message, _) => message,
            };
            match message {
                Ok(message) => Some((Ok(Frame::data(message?)), Some((messages, unread)))),
                Err(failure) => Some((Err(Status::from(failure)), None)),
            }
        });
        Body::new(StreamBody::new(frames))
    }

    /// Returns the next message as the decoder takes it: uncompressed, with its length before it.
    async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        self.held = None;
        while self.buffer.len() < PREFIX_BYTES {
            if !self.more().await? {
                return if self.buffer.is_empty() { Ok(None) } else { Err(cut_off()) };
            }
        }
        let is_compressed = match self.buffer[0] {
            0 => false,
            1 if self.is_gzip => true,
            _ => {
                return Err(Failure::End(malformed(
                    "has a compression flag without grpc-encoding",
                )));
            }
        };
        let [_, a, b, c, d] = [0, 1, 2, 3, 4].map(|index| self.buffer[index]);
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        let limit = self.reading.limits.message_timeout;
        let message = timeout(limit, self.whole(length, is_compressed)).await;
        let message = message.unwrap_or_else(|_| Err(late()))?;
        if let Some(peer) = self.peer.as_ref().filter(|_| self.kind != Kind::Exempt) {
            peer.note_known();
        }
        Ok(Some(message))
    }

    async fn whole(&mut self, length: usize, is_compressed: bool) -> Result<Bytes, Failure> {
        if length > self.max_bytes {
            return Err(self.skip(length, is_compressed).await?);
        }
        self.reserve(length).await?;
        while self.buffer.len() < PREFIX_BYTES + length {
            if !self.more().await? {
                return Err(cut_off());
            }
        }
        let mut message = self.buffer.split_to(PREFIX_BYTES + length).freeze();
        if is_compressed {
            message = framed(&self.unzip(&message[PREFIX_BYTES..]).await?);
        }
        match self.reading.shapes.check(self.input, &message[PREFIX_BYTES..]) {
            Ok(()) => Ok(message),
            Err(fault) => Err(bad(fault.into())),
        }
    }

    /// Waits for memory for a message of `length` bytes.
    async fn reserve(&mut self, length: usize) -> Result<(), Failure> {
        if length <= SMALL_BYTES {
            return Ok(());
        }
        let is_stranger = self.peer.as_ref().is_some_and(|peer| peer.is_stranger());
        let reading = &self.reading;
        let (memory, most) = if is_stranger {
            (&reading.memory_of_strangers, reading.limits.max_memory_bytes / STRANGERS_SHARE)
        } else {
            (&reading.memory, reading.limits.max_memory_bytes)
        };
        // A message that needs more memory than there is takes all of it.
        let size = u32::try_from(length.div_ceil(1024).min(most / 1024)).unwrap_or(u32::MAX);
        // A stream waits longer, because it cannot easily send a message again.
        let patience =
            if self.input.is_stream { reading.limits.message_timeout } else { RETRY_DELAY };
        self.held = None;
        let acquired = timeout(patience, Arc::clone(memory).acquire_many_owned(size)).await;
        self.held = acquired.ok().and_then(Result::ok);
        if self.held.is_some() {
            return Ok(());
        }
        let error = Error::Busy {
            reason: "OVERLOADED",
            description: "the service has no memory left for messages; try again later".to_owned(),
            retry_delay: RETRY_DELAY,
        };
        Err(Failure::End(error.into()))
    }

    async fn unzip(&mut self, compressed: &[u8]) -> Result<Vec<u8>, Failure> {
        let mut most = compressed.len().saturating_mul(LIKELY_RATIO).min(self.max_bytes);
        loop {
            self.reserve(most).await?;
            let message = unzipped(compressed, most)?;
            if message.len() <= most {
                return Ok(message);
            }
            if most == self.max_bytes {
                return Err(self.too_long(&message, None));
            }
            most = self.max_bytes;
        }
    }

    /// Discards a message that is too long while reading it. Returns the message's error.
    async fn skip(&mut self, length: usize, is_compressed: bool) -> Result<Failure, Failure> {
        let start = PREFIX_BYTES + START_BYTES.min(length);
        while self.buffer.len() < start {
            if !self.more().await? {
                return Err(cut_off());
            }
        }
        let known = if is_compressed { &[] } else { &self.buffer[PREFIX_BYTES..start] };
        let failure = self.too_long(known, Some(length));
        let mut left = PREFIX_BYTES + length;
        loop {
            let read = left.min(self.buffer.len());
            left -= read;
            let rest = self.buffer.split_off(read);
            self.buffer = rest;
            if left == 0 {
                return Ok(failure);
            }
            if !self.more().await? {
                return Err(cut_off());
            }
        }
    }

    /// Returns the error of a message that begins with the bytes `start`.
    fn too_long(&self, start: &[u8], length: Option<usize>) -> Failure {
        let field = match self.reading.shapes.check(self.input, start) {
            Ok(()) => "message".to_owned(),
            Err(fault) if fault.problem == Problem::CutOff => fault.field,
            Err(fault) => return bad(fault.into()),
        };
        let most = self.max_bytes;
        let description = match length {
            Some(length) => format!(
                "makes the message too long: it has {length} bytes, the method takes at most {most}"
            ),
            None => format!("makes the message too long: the method takes at most {most} bytes"),
        };
        bad(Violation { field, description })
    }

    /// Reads more bytes. Returns whether there were any.
    async fn more(&mut self) -> Result<bool, Failure> {
        loop {
            match self.body.frame().await {
                None => return Ok(false),
                Some(Err(status)) => return Err(Failure::End(status)),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                        return Ok(true);
                    }
                }
            }
        }
    }
}

/// Decompresses a message. If the message is longer than `most` bytes, returns `most + 1` bytes.
fn unzipped(compressed: &[u8], most: usize) -> Result<Vec<u8>, Failure> {
    let mut message = Vec::new();
    let most = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    let read = GzDecoder::new(compressed).take(most).read_to_end(&mut message);
    read.map_err(|_| Failure::Bad(Error::invalid("message", "is not compressed with gzip")))?;
    Ok(message)
}

fn framed(message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(PREFIX_BYTES + message.len());
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    bytes.put_slice(message);
    bytes.freeze()
}

fn bad(violation: Violation) -> Failure {
    Failure::Bad(Error::Invalid { violations: vec![violation] })
}

fn malformed(what: &str) -> Status {
    Error::invalid("message", what).into()
}

fn cut_off() -> Failure {
    Failure::End(malformed("is cut off"))
}

fn late() -> Failure {
    Failure::End(Error::Unfinished.into())
}
