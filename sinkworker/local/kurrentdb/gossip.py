"""Gossip: the one member there is, this server, as the leader."""

from __future__ import annotations

import time
import uuid

from kurrentdbclient.protos.v1 import gossip_pb2

from sinkworker.local.kurrentdb.records import structured_uuid

# The generated module keeps this enum inside the message; its numbers are the protocol's.
LEADER = gossip_pb2.MemberInfo.Leader


def cluster_info(instance: uuid.UUID, address: tuple[str, int]) -> gossip_pb2.ClusterInfo:
    """What discovery needs: a living leader at the address by which the client came."""
    host, port = address
    member = gossip_pb2.MemberInfo(
        instance_id=structured_uuid(instance),
        time_stamp=time.time_ns() // 100,
        state=LEADER,
        is_alive=True,
        http_end_point=gossip_pb2.EndPoint(address=host, port=port),
    )
    return gossip_pb2.ClusterInfo(members=[member])
