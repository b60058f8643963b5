//! The address of a request's client: that of the connection or, behind trusted proxies, the one that they forward.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::extract::{ConnectInfo, Request};
use axum::http::{HeaderMap, HeaderName, header};
use ipnet::IpNet;

use convgroups_host::settings::InvalidSetting;

use crate::settings::{ForwardedHeader, ServerSettings};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The sender of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Client {
    /// The other end of the connection.
    pub(super) peer: IpAddr,
    /// The client, which is the peer unless that is a trusted proxy.
    pub(super) address: IpAddr,
    /// What the client spoke, unless a trusted proxy does not say.
    pub(super) scheme: Option<Scheme>,
    /// Whether a trusted proxy is between.
    pub(super) is_proxied: bool,
    /// Whether a peer that is not a trusted proxy sent a forwarded address.
    pub(super) is_ignored: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// The trusted proxies, and the header in which they forward addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Proxies {
    trusted: Vec<IpNet>,
    header: ForwardedHeader,
    /// The scheme that this server itself speaks.
    scheme: Scheme,
}

impl Proxies {
    pub(super) fn new(settings: &ServerSettings, secure: bool) -> Result<Self, InvalidSetting> {
        let mut trusted = Vec::with_capacity(settings.trusted_proxies.len());
        for text in &settings.trusted_proxies {
            let network = text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
            let network = network.filter(|network| network.prefix_len() > 0).ok_or_else(|| {
                let reason = format!(
                    "has {text:?}: expected an address or a network that is not all addresses, as 10.0.0.7 or 10.0.0.0/8"
                );
                InvalidSetting { key: "server.trusted_proxies", reason }
            })?;
            trusted.push(network);
        }
        let scheme = if secure { Scheme::Https } else { Scheme::Http };
        Ok(Self { trusted, header: settings.forwarded_header, scheme })
    }

    /// The client of a request.
    pub(super) fn client(&self, request: &Request) -> Client {
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
        // Without a connection there is no proxy either.
        let peer = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |ConnectInfo(peer)| peer.ip().to_canonical());
        self.client_of(peer, request.headers())
    }

    fn client_of(&self, peer: IpAddr, headers: &HeaderMap) -> Client {
        if !self.trusts(peer) {
            let is_ignored = headers.contains_key(X_FORWARDED_FOR) || headers.contains_key(header::FORWARDED);
            return Client { peer, address: peer, scheme: Some(self.scheme), is_proxied: false, is_ignored };
        }
        let hops = match self.header {
            ForwardedHeader::XForwardedFor => x_forwarded_for(headers),
            ForwardedHeader::Forwarded => forwarded(headers),
        };
        // Each proxy appends the address of its own peer at the right. Everything to the left of the first untrusted address
        // may be forged by the client.
        let mut address = peer;
        let mut scheme = match self.header {
            // Whether proxies replace this header or add to it, what the nearest one says is at the right.
            ForwardedHeader::XForwardedFor => elements(headers, &X_FORWARDED_PROTO).last().and_then(self::scheme),
            ForwardedHeader::Forwarded => None,
        };
        for hop in hops.iter().rev() {
            scheme = hop.scheme.or(scheme);
            let Some(next) = hop.address else { break };
            address = next;
            if !self.trusts(next) {
                break;
            }
        }
        Client { peer, address, scheme, is_proxied: true, is_ignored: false }
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(&address))
    }
}

/// What one proxy says about its peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Hop {
    address: Option<IpAddr>,
    scheme: Option<Scheme>,
}

/// The elements of a list that may be spread over several headers.
fn elements<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    // What is not ASCII is an element that says nothing.
    headers.get_all(name).iter().flat_map(|value| value.to_str().unwrap_or("?").split(',')).map(str::trim)
}

fn x_forwarded_for(headers: &HeaderMap) -> Vec<Hop> {
    elements(headers, &X_FORWARDED_FOR).map(|element| Hop { address: address(element), scheme: None }).collect()
}

/// The header of RFC 7239.
fn forwarded(headers: &HeaderMap) -> Vec<Hop> {
    let hop = |element: &str| {
        let mut hop = Hop::default();
        for (name, value) in element.split(';').filter_map(|pair| pair.split_once('=')) {
            let value = value.trim().trim_matches('"');
            match name.trim().to_ascii_lowercase().as_str() {
                "for" => hop.address = address(value),
                "proto" => hop.scheme = scheme(value),
                _ => {}
            }
        }
        hop
    };
    elements(headers, &header::FORWARDED).map(hop).collect()
}

/// An address, with a port or without one.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))?;
    Some(IpAddr::to_canonical(&address))
}

fn scheme(text: &str) -> Option<Scheme> {
    match text.to_ascii_lowercase().as_str() {
        "http" => Some(Scheme::Http),
        "https" => Some(Scheme::Https),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    /// Headers of a request.
    type Sent<'a> = &'a [(&'static str, &'a str)];

    fn proxies(header: ForwardedHeader) -> Proxies {
        let trusted_proxies = ["10.0.0.0/8", "192.0.2.7", "2001:db8::/32"].map(str::to_owned).to_vec();
        let settings = ServerSettings { trusted_proxies, forwarded_header: header, ..ServerSettings::default() };
        Proxies::new(&settings, false).expect("they can be read")
    }

    fn client(header: ForwardedHeader, peer: &str, sent: Sent<'_>) -> (String, &'static str) {
        let mut headers = HeaderMap::new();
        for (name, value) in sent {
            headers.append(*name, HeaderValue::from_str(value).expect("a value"));
        }
        let client = proxies(header).client_of(peer.parse().expect("an address"), &headers);
        (client.address.to_string(), client.scheme.map_or("", Scheme::as_str))
    }

    #[test]
    fn the_forwarded_address_is_the_rightmost_that_is_not_a_trusted_proxy() {
        let by = "x-forwarded-for";
        let cases: [(&str, Sent<'_>, &str); 17] = [
            ("198.51.100.1", &[], "198.51.100.1"),
            // Not a proxy: what it says is not believed.
            ("198.51.100.1", &[(by, "203.0.113.9")], "198.51.100.1"),
            ("10.1.2.3", &[], "10.1.2.3"),
            ("10.1.2.3", &[(by, "203.0.113.9")], "203.0.113.9"),
            ("192.0.2.7", &[(by, "203.0.113.9:4711")], "203.0.113.9"),
            ("192.0.2.8", &[(by, "203.0.113.9")], "192.0.2.8"),
            // What the client sent itself stands at the left.
            ("10.1.2.3", &[(by, "127.0.0.1, 203.0.113.9")], "203.0.113.9"),
            ("10.1.2.3", &[(by, "127.0.0.1"), (by, "203.0.113.9")], "203.0.113.9"),
            ("10.1.2.3", &[(by, "127.0.0.1, 203.0.113.9, 10.9.9.9,192.0.2.7")], "203.0.113.9"),
            ("10.1.2.3", &[(by, "10.4.4.4, 10.5.5.5")], "10.4.4.4"),
            ("10.1.2.3", &[(by, "203.0.113.9, unknown")], "10.1.2.3"),
            ("10.1.2.3", &[(by, "203.0.113.9, _hidden, 10.5.5.5")], "10.5.5.5"),
            ("10.1.2.3", &[(by, "")], "10.1.2.3"),
            ("2001:db8::1", &[(by, "2a00::5")], "2a00::5"),
            ("10.1.2.3", &[(by, "[2a00::5]:99")], "2a00::5"),
            ("10.1.2.3", &[(by, "::ffff:203.0.113.9")], "203.0.113.9"),
            // A header that this kind of proxy does not set may be the client's.
            ("10.1.2.3", &[("forwarded", "for=127.0.0.1")], "10.1.2.3"),
        ];
        for (peer, sent, expected) in cases {
            assert_eq!(client(ForwardedHeader::XForwardedFor, peer, sent).0, expected, "{peer}: {sent:?}");
        }
    }

    #[test]
    fn the_header_of_rfc_7239_is_read_where_the_settings_say_so() {
        let by = "forwarded";
        let cases: [(&str, Sent<'_>, (&str, &str)); 8] = [
            ("198.51.100.1", &[(by, "for=203.0.113.9")], ("198.51.100.1", "http")),
            ("10.1.2.3", &[(by, "for=203.0.113.9;proto=https")], ("203.0.113.9", "https")),
            ("10.1.2.3", &[(by, "For=\"[2a00::5]:4711\"; Proto=HTTPS;by=10.1.2.3")], ("2a00::5", "https")),
            ("10.1.2.3", &[(by, "for=127.0.0.1, for=203.0.113.9")], ("203.0.113.9", "")),
            (
                "10.1.2.3",
                &[(by, "for=127.0.0.1;proto=http, for=203.0.113.9;proto=https, for=10.7.7.7")],
                ("203.0.113.9", "https"),
            ),
            ("10.1.2.3", &[(by, "for=_secret;proto=https")], ("10.1.2.3", "https")),
            ("10.1.2.3", &[(by, "nonsense")], ("10.1.2.3", "")),
            ("10.1.2.3", &[("x-forwarded-for", "127.0.0.1"), (by, "for=203.0.113.9")], ("203.0.113.9", "")),
        ];
        for (peer, sent, (address, scheme)) in cases {
            let found = client(ForwardedHeader::Forwarded, peer, sent);
            assert_eq!((found.0.as_str(), found.1), (address, scheme), "{peer}: {sent:?}");
        }
    }

    #[test]
    fn the_forwarded_scheme_is_believed_of_trusted_proxies_only() {
        let sent = |proto| [("x-forwarded-for", "203.0.113.9"), ("x-forwarded-proto", proto)];
        for (peer, proto, expected) in [
            ("10.1.2.3", "https", "https"),
            ("10.1.2.3", "http", "http"),
            ("10.1.2.3", "http, https", "https"),
            ("10.1.2.3", "gopher", ""),
            ("198.51.100.1", "https", "http"),
        ] {
            assert_eq!(client(ForwardedHeader::XForwardedFor, peer, &sent(proto)).1, expected, "{peer}: {proto}");
        }
    }

    #[test]
    fn proxies_that_cannot_be_read_or_are_all_addresses_are_refused() {
        for wrong in ["", "localhost", "10.0.0.0/33", "10.0.0.7:80", "0.0.0.0/0", "::/0", "10.0.0.0/8,192.0.2.7"] {
            let settings = ServerSettings { trusted_proxies: vec![wrong.to_owned()], ..ServerSettings::default() };
            let error = Proxies::new(&settings, false).expect_err(wrong);
            assert_eq!(error.key, "server.trusted_proxies");
            assert!(error.reason.contains(&format!("{wrong:?}")), "{error}");
        }
    }
}
