//! The kernel's routing tables over rtnetlink: whole tables on request, and a stream of what changes.

use std::io;
use std::net::{IpAddr, Ipv6Addr};

use futures::channel::mpsc::UnboundedReceiver;
use futures::{Stream, StreamExt, TryStreamExt};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};
use rtnetlink::packet_route::route::RouteMessage;
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::{AsyncSocket, SocketAddr};
use rtnetlink::{Handle, IpVersion, MulticastGroup, RouteMessageBuilder, new_connection, new_multicast_connection};
use tokio::task::JoinHandle;

use super::links::{Link, LinkAddress};
use super::neighbors::{Change, Key, question};
use super::objects::Changes;
use super::questions::Asker;
use super::routes::KernelRoute;
use super::rules::Rule;
use super::settings::Settings;

/// The kernel was built without policy rules.
const EOPNOTSUPP: i32 = 95;
/// There is no such link.
const ENODEV: i32 = 19;

/// Room for change messages that wait to be read: a storm of some ten thousand fits.
const RECEIVE_BUFFER: u32 = 8 << 20;

/// What kind of thing changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A link, by its ifindex, and with it perhaps its routes, of which the kernel says nothing.
    Link(u32),
    /// An address, and with it perhaps its routes.
    Address,
    /// A route, a policy rule or a next hop object.
    Route,
    /// A neighbour.
    Neighbor(Change),
    /// What interfaces ask of the packets that arrive.
    Settings,
    /// Messages were lost: every table must be read again.
    Overrun,
}

impl Event {
    /// What a message means; `None` for what does not concern us.
    fn of(message: NetlinkMessage<RouteNetlinkMessage>) -> Option<Self> {
        use RouteNetlinkMessage as M;
        match message.payload {
            NetlinkPayload::InnerMessage(M::NewLink(link) | M::DelLink(link)) => Some(Event::Link(link.header.index)),
            NetlinkPayload::InnerMessage(M::NewAddress(_) | M::DelAddress(_)) => Some(Event::Address),
            NetlinkPayload::InnerMessage(M::NewRoute(_) | M::DelRoute(_) | M::NewRule(_) | M::DelRule(_)) => {
                Some(Event::Route)
            }
            NetlinkPayload::InnerMessage(M::NewNeighbour(message)) => {
                Change::from_message(&message, false).map(Event::Neighbor)
            }
            NetlinkPayload::InnerMessage(M::DelNeighbour(message)) => {
                Change::from_message(&message, true).map(Event::Neighbor)
            }
            NetlinkPayload::Overrun(_) => Some(Event::Overrun),
            _ => None,
        }
    }
}

type Messages = UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>;

/// Netlink sockets: two for questions, of which one answers while a table is read by the other, and two that hear of changes. All
/// are closed on drop.
pub struct Kernel {
    handle: Handle,
    apart: Handle,
    messages: Messages,
    pub(super) settings: Settings,
    objects: Changes,
    /// Asks where packets go; away while it does.
    pub(super) asker: Option<Asker>,
    tasks: [JoinHandle<()>; 3],
}

impl Drop for Kernel {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Kernel {
    /// Opens the sockets in the calling thread's network namespace. From here on no change is missed.
    pub fn open() -> io::Result<Self> {
        let (mut watch, _, messages) = new_multicast_connection(&[
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
            MulticastGroup::Ipv4Rule,
            MulticastGroup::Ipv6Rule,
            MulticastGroup::Neigh,
        ])?;
        // Smaller than asked for is no failure: an overrun is noticed and repaired.
        let _ = watch.socket_mut().socket_mut().set_rx_buf_sz(RECEIVE_BUFFER);
        let (connection, handle, _) = new_connection()?;
        let (other, apart, _) = new_connection()?;
        let (settings, objects, asker) = (Settings::open()?, Changes::listen()?, Some(Asker::open()?));
        let tasks = [tokio::spawn(watch), tokio::spawn(connection), tokio::spawn(other)];
        Ok(Kernel { handle, apart, messages, settings, objects, asker, tasks })
    }

    /// The next change that concerns us; `None` when the socket broke.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            tokio::select! {
                message = self.messages.next() => {
                    if let Some(event) = Event::of(message?.0) {
                        return Some(event);
                    }
                }
                () = self.settings.changed() => return Some(Event::Settings),
                () = self.objects.next() => return Some(Event::Route),
            }
        }
    }

    /// A change that has already arrived.
    pub fn ready(&mut self) -> Option<Event> {
        while let Ok((message, _)) = self.messages.try_recv() {
            if let Some(event) = Event::of(message) {
                return Some(event);
            }
        }
        None
    }

    /// What reads whole tables.
    pub fn tables(&self) -> TableReader {
        TableReader(self.handle.clone())
    }

    /// Every link, also while a table is read: one socket has one dump at a time.
    pub async fn links_apart(&self) -> io::Result<Vec<Link>> {
        TableReader(self.apart.clone()).links().await
    }

    /// A link by its ifindex, also while a table is read; `None` when it is gone.
    pub async fn link_apart(&self, index: u32) -> io::Result<Option<Link>> {
        let asked = self.apart.link().get().match_index(index).execute().try_next().await;
        match asked.map_err(io_error) {
            Ok(message) => Ok(message.and_then(|message| Link::from_message(&message))),
            Err(error) if error.raw_os_error() == Some(ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A way to ask the kernel to resolve neighbours while this is busy.
    pub fn resolver(&self) -> Resolver {
        Resolver(self.handle.clone())
    }
}

/// Reads the kernel's tables, each whole.
#[derive(Clone)]
pub struct TableReader(Handle);

impl TableReader {
    /// Every link.
    pub async fn links(&self) -> io::Result<Vec<Link>> {
        collect(self.0.link().get().execute(), |message| Link::from_message(&message)).await
    }

    /// Every address, but those that somebody else has.
    pub async fn addresses(&self) -> io::Result<Vec<LinkAddress>> {
        collect(self.0.address().get().execute(), |message| LinkAddress::from_message(&message)).await
    }

    /// Every route that counts.
    pub async fn routes(&self) -> io::Result<Vec<KernelRoute>> {
        let mut routes = Vec::new();
        let v4: RouteMessage = RouteMessageBuilder::<std::net::Ipv4Addr>::new().build();
        let v6: RouteMessage = RouteMessageBuilder::<std::net::Ipv6Addr>::new().build();
        for family in [v4, v6] {
            let dump = self.0.route().get(family).execute();
            routes.extend(collect(dump, |message| KernelRoute::from_message(&message)).await?);
        }
        Ok(routes)
    }

    /// Every policy rule; none on a kernel that knows none.
    pub async fn rules(&self) -> io::Result<Vec<Rule>> {
        let mut rules = Vec::new();
        for version in [IpVersion::V4, IpVersion::V6] {
            match collect(self.0.rule().get(version).execute(), |message| Rule::from_message(&message)).await {
                Ok(some) => rules.extend(some),
                Err(error) if error.raw_os_error() == Some(EOPNOTSUPP) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(rules)
    }

    /// Every neighbour that packets can be sent to: of others there may be any number.
    pub async fn neighbors(&self) -> io::Result<Vec<Change>> {
        let mut neighbors = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let dump = self.0.neighbours().get().set_address_family(family).execute();
            let usable = |message| Change::from_message(&message, false).filter(|change| change.usable().is_some());
            neighbors.extend(collect(dump, usable).await?);
        }
        Ok(neighbors)
    }
}

/// Asks the kernel to resolve neighbours, or to forget them.
#[derive(Clone)]
pub struct Resolver(Handle);

impl Resolver {
    /// Makes the kernel resolve this neighbour, or confirm it when it is stale.
    pub async fn ask(&self, (link, address): Key) -> io::Result<()> {
        let (state, flags) = question();
        let request = self.0.neighbours().add(link, address).state(state).flags(flags).replace();
        request.execute().await.map_err(io_error)
    }

    /// Makes the kernel forget this neighbour, and the multicast group that it asked by for an IPv6 one: that stands in the
    /// same table, and longer. What the kernel does not have is none to forget.
    pub async fn forget(&self, (link, address): Key) -> io::Result<()> {
        if let IpAddr::V6(v6) = address {
            let [.., a, b, c] = v6.octets();
            let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]));
            self.delete((link, group.into())).await?;
        }
        self.delete((link, address)).await
    }

    async fn delete(&self, (link, address): Key) -> io::Result<()> {
        match self.0.neighbours().del(named(link, address)).execute().await.map_err(io_error) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }
}

fn named(link: u32, address: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.ifindex = link;
    (message.header.family, message.attributes) = match address {
        IpAddr::V4(v4) => (AddressFamily::Inet, vec![NeighbourAttribute::Destination(NeighbourAddress::Inet(v4))]),
        IpAddr::V6(v6) => (AddressFamily::Inet6, vec![NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6))]),
    };
    message
}

async fn collect<M, T>(
    dump: impl Stream<Item = Result<M, rtnetlink::Error>>,
    convert: impl Fn(M) -> Option<T>,
) -> io::Result<Vec<T>> {
    dump.try_filter_map(async |message| Ok(convert(message))).try_collect().await.map_err(io_error)
}

fn io_error(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other),
    }
}
