//! THE REQUEST PATH. Read [`Gateway::handle`] and [`Gateway::proxy`]: the rest of this file
//! is what they walk over.
//!
//! Every request has one snapshot of the configuration, one answer and one event in the log.
//! What each step decides is in its own module; the order of the steps is here.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arc_swap::ArcSwap;
use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use hyper::body::{Body as _, Incoming};
use tokio::time::Instant;

use crate::authn::{self, Presented};
use crate::authz;
use crate::body::Body;
use crate::cors::{self, Cors};
use crate::exchange::{self, Exchanger, TokenPlan, Unanswered, UpstreamCredential};
use crate::forward::upgrade::{Asked, Tunnel};
use crate::forward::{self, Answer, Challenged, Inbound, Trail, UpstreamRequest};
use crate::interim::Interim;
use crate::metadata::ProtectedResource;
use crate::observe::access_log::{AccessRecord, Observer};
use crate::observe::handles::UpstreamMetrics;
use crate::observe::phases::Phase;
use crate::observe::recorded_body::RecordedBody;
use crate::observe::request_id::{RequestId, X_REQUEST_ID};
use crate::observe::tracer::Sender;
use crate::peer::{Peer, TrustedProxies};
use crate::preflight;
use crate::public_url::PublicUrl;
use crate::rate_limit::Admission;
use crate::rejection::Rejection;
use crate::respond::{self, Form};
use crate::route::Target;
use crate::shared_store::Waited;
use crate::snapshot::{Action, Forward, Route, ServerTiming, Snapshot};

/// What serves requests, over all configurations that follow each other.
#[derive(Debug)]
pub struct Gateway {
    snapshot: ArcSwap<Snapshot>,
    exchanger: Arc<Exchanger>,
    observer: Arc<Observer>,
}

impl Gateway {
    /// Serves `snapshot`.
    pub fn new(
        snapshot: Snapshot,
        exchanger: Arc<Exchanger>,
        observer: Arc<Observer>,
    ) -> Arc<Self> {
        Arc::new(Self { snapshot: ArcSwap::from_pointee(snapshot), exchanger, observer })
    }

    /// The configuration that new requests meet.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Puts another configuration in place; requests under way keep theirs.
    pub fn replace(&self, snapshot: Snapshot) {
        self.snapshot.store(Arc::new(snapshot));
    }

    /// Answers one request. Cannot fail: a refusal is a response, and every request leaves one
    /// log event. What the upstream says before its answer goes over `interim`.
    ///
    /// No `async fn`, and neither are `proxy` and `send`: each would have a second place for all it
    /// is given.
    pub fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: Peer,
        interim: Option<Interim>,
    ) -> impl Future<Output = Response<RecordedBody<Body>>> + Send {
        async move {
            let snapshot = self.snapshot();
            let form = Form::of(&request);
            let request_id = request_id(&request, &peer, &snapshot.trusted_proxies);
            let mut record = AccessRecord::begin(&self.observer, &request, &peer, request_id);
            record.client_ip = snapshot.trusted_proxies.client_ip(&peer, request.headers());
            if let Some(tracer) = &snapshot.tracer {
                let trusted = snapshot.trusted_proxies.trust(peer.address.ip());
                let sender = if trusted { Sender::TrustedProxy } else { Sender::Stranger };
                record.begin_trace(tracer, &request, &peer, sender);
            }

            let mut met = Met::default();
            // By far the largest part of a request's state: whoever takes the future moves it. The box
            // comes first, so that it is made where it stays.
            let place = Box::new_uninit();
            let answer = self.proxy(&snapshot, request, &peer, interim, &mut record, &mut met);
            let answer = Box::into_pin(Box::write(place, answer));
            // A bug costs one request, and that one is answered and logged like any other.
            let answer = AssertUnwindSafe(answer).catch_unwind().await.unwrap_or_else(|_panic| {
                let reason = "a panic: see the log above this line, and report it";
                Err(Rejection::internal(reason))
            });
            let mut response = answer.unwrap_or_else(|rejection| {
                record.refused(&rejection);
                respond::refusal(&rejection, record.request_id().as_str(), form, met.metadata_url())
            });
            record.tell_timing(response.headers_mut());
            met.show_to_page(response.headers_mut());
            if record.upstream.is_none() {
                form.say_last_word(response.headers_mut());
            }
            response.headers_mut().insert(X_REQUEST_ID, record.request_id().header().clone());
            Tunnel::complete(response, record)
        }
    }

    /// Counts and logs what was refused before there was a request.
    pub fn refused(&self, peer: &Peer, request_id: &RequestId, rejection: &Rejection) {
        self.observer.refused_unread(peer, request_id, rejection);
    }

    /// The order is security: no route is looked for, and no token read, before the target is
    /// canonical (what `handle` read before is for the log alone, and the request's id); the
    /// policy judges only who was authenticated; a credential is made only with
    /// a permit, and only what used up a permit is sent.
    fn proxy<'s>(
        &self,
        snapshot: &'s Snapshot,
        mut request: Request<Incoming>,
        peer: &Peer,
        interim: Option<Interim>,
        record: &mut AccessRecord,
        met: &mut Met<'s>,
    ) -> impl Future<Output = Result<Response<Body>, Rejection>> {
        async move {
            let target = Target::parse(&request)?;
            if let Some(preflight) = preflight::answer(snapshot, &target, request.headers()) {
                return Ok(preflight.told(record));
            }
            let found = snapshot.routes.find(&target, request.headers());
            let found = found.inspect_err(|_| met.none(snapshot, &target, request.headers()))?;
            let route = found.route;
            record.route = Some(Arc::clone(&route.metrics));
            met.route(route, request.headers());
            if route.server_timing == ServerTiming::On {
                record.tell_phases();
            }
            let mut waited = Waited::default();
            // Before the token: whom this holds back costs no signature check.
            if let Some(limit) = &route.rate_limit
                && let Admission::Asks(replicas) = limit.admit(record.client_ip)?
            {
                waited = replicas.await?;
            }
            record.enter(Phase::Auth);
            let presented = Presented {
                target: &target,
                headers: request.headers(),
                peer,
                public_url: snapshot.public_url.as_deref().map(PublicUrl::url),
            };
            let authenticated = authn::authenticate(&route.requirement, presented).await?;
            record.identity = authenticated.identity().cloned();
            let permit = authz::authorize(&route.policy, authenticated)?;
            record.leave();
            // Behind it: nobody is held back by what others were refused.
            if let Some(limit) = &route.rate_limit
                && let caller = permit.caller().map(|caller| &**caller.identity())
                && let Admission::Asks(replicas) = limit.admit_caller(caller)?
            {
                waited = replicas.await?;
            }
            if !matches!(route.action, Action::Forward(_)) {
                Asked::none_of(&request)?;
            }
            let Forward { token, forwarding, metrics } = match &route.action {
                Action::Forward(forward) => forward.as_ref(),
                Action::Respond(canned) => return Ok(canned.response()),
                Action::Redirect(redirect) => return redirect.response(&target, &found.captures),
                Action::Describe(resources) => {
                    return resources.answer(&target, |of| snapshot.resource(of));
                }
            };
            let upstream = forwarding.upstream.name();
            record.upstream = Some(Arc::clone(metrics));
            let upgrade = Asked::of(&mut request, &forwarding.upgrades)?;
            if record.is_sampled()
                && let Some(provider) = token.provider(permit.caller().map(|it| &**it.identity()))
            {
                record.exchange_with(provider);
            }
            record.enter(Phase::Exchange);
            let asked_at = token.obtains().then(Instant::now);
            let credential =
                exchange::credential(&self.exchanger, token, upstream, metrics, &permit, waited)
                    .await
                    .inspect_err(|_refused| {
                        record.exchange_took = asked_at.map(|asked_at| asked_at.elapsed());
                    })?;
            record.token_cache = credential.cache_result();
            record.exchange_took = credential.exchange_time();
            record.leave();
            if !credential.is_exchanged() {
                record.forget(Phase::Exchange);
            }
            let request = {
                let (mut parts, body) = request.into_parts();
                record.continue_trace(&mut parts.headers);
                let body = (!body.is_end_stream()).then(|| (body, record.bytes_in()));
                let inbound = Inbound {
                    parts,
                    body,
                    target: &target,
                    captures: &found.captures,
                    links: snapshot.links.as_ref(),
                    peer,
                    trusted: &snapshot.trusted_proxies,
                    interim,
                    request_id: record.request_id().header(),
                    token_end: permit
                        .caller()
                        .and_then(|it| route.requirement.token_end(it.identity())),
                    upgrade,
                };
                forward::prepare(forwarding, inbound, permit, &credential)?
            };
            match self.send(request, &credential, record).await? {
                Answer::Response(response) => Ok(response),
                // Rare: its state is not to be part of every request.
                Answer::Challenged(challenged) => {
                    Box::pin(self.send_again(*challenged, token, &credential, metrics, record))
                        .await
                }
            }
        }
    }

    fn send<'a>(
        &self,
        request: UpstreamRequest<'a>,
        credential: &UpstreamCredential,
        record: &mut AccessRecord,
    ) -> impl Future<Output = Result<Answer<'a>, Rejection>> {
        async move {
            record.enter(Phase::Upstream);
            let sent_at = Instant::now();
            let trail = Trail {
                endpoint: &mut record.endpoint,
                reason: &mut record.reason,
                bytes_in: &mut record.bytes_in,
                metrics: record.upstream.as_deref(),
            };
            let answer = forward::send(request, trail).await;
            record.upstream_took =
                Some(record.upstream_took.unwrap_or_default() + sent_at.elapsed());
            if answer.is_ok() {
                record.leave();
            }
            if let Ok(Answer::Response(response)) = &answer
                && response.status() == StatusCode::UNAUTHORIZED
            {
                // The next request asks for a new token rather than be refused with this one too.
                self.exchanger.forget(credential);
            }
            answer
        }
    }

    /// Continuous access evaluation: the upstream asks for a token with more claims. It gets one,
    /// once, if the provider gives it and the body is still at hand; else the challenge is the caller's.
    async fn send_again(
        &self,
        challenged: Challenged<'_>,
        token: &TokenPlan,
        refused: &UpstreamCredential,
        metrics: &UpstreamMetrics,
        record: &mut AccessRecord,
    ) -> Result<Response<Body>, Rejection> {
        record.enter(Phase::Exchange);
        let asked_at = Instant::now();
        let (caller, claims) = (challenged.caller(), challenged.claims().clone());
        let renewed =
            exchange::answer_challenge(&self.exchanger, token, refused, metrics, caller, &claims)
                .await;
        record.exchange_took = Some(record.exchange_took.unwrap_or_default() + asked_at.elapsed());
        let renewed = renewed?;
        record.leave();
        record.token_cache = renewed.cache_result();
        let Some(request) = challenged.with(&renewed)? else {
            return Err(renewed.challenge_stands(&claims, Unanswered::BodyGone));
        };
        match self.send(request, &renewed, record).await? {
            Answer::Response(response) => Ok(response),
            Answer::Challenged(still) => {
                Err(renewed.challenge_stands(still.claims(), Unanswered::NotSatisfied))
            }
        }
    }
}

/// What a request has met so far, and what its answer is to say of that, a refusal too.
#[derive(Default)]
struct Met<'s> {
    route: Option<&'s Route>,
    /// Who may read the answer, and who asks.
    cors: Option<(&'s Cors, Option<HeaderValue>)>,
}

impl<'s> Met<'s> {
    fn route(&mut self, route: &'s Route, headers: &HeaderMap) {
        self.route = Some(route);
        if let Some(cors) = &route.cors {
            self.cors = Some((cors, cors::origin_of(headers).cloned()));
        }
    }

    /// No route takes it. That may be read by the pages of those that take others of this path.
    fn none(&mut self, snapshot: &'s Snapshot, target: &Target, headers: &HeaderMap) {
        let Some(origin) = cors::origin_of(headers) else { return };
        let policies = snapshot.routes.reachable(target).filter_map(|route| route.cors.as_deref());
        let allowing = policies.into_iter().find(|cors| cors.allows(Some(origin)));
        self.cors = allowing.map(|cors| (cors, Some(origin.clone())));
    }

    fn metadata_url(&self) -> Option<&str> {
        self.route?.resource.as_deref().map(ProtectedResource::metadata_url)
    }

    fn show_to_page(&self, headers: &mut HeaderMap) {
        if let Some((cors, origin)) = &self.cors {
            cors.apply(origin.as_ref(), headers);
        }
    }
}

/// The id that a trusted proxy gave the request, else a new one.
fn request_id<B>(request: &Request<B>, peer: &Peer, trusted: &TrustedProxies) -> RequestId {
    let is_trusted = trusted.trust(peer.address.ip());
    let given = is_trusted.then(|| request.headers().get(X_REQUEST_ID)).flatten();
    given.and_then(RequestId::trusted).unwrap_or_default()
}
