"""moto as EC2, IAM, STS and metadata service, driven by lines of JSON; it ends with its standard input.

Signatures and policies are checked. boto3, which is not ours, makes what a test begins with and reads the
routes back.
"""

import json
import logging
import os
import sys
import urllib.request

logging.getLogger("werkzeug").setLevel(logging.ERROR)
for name in [name for name in os.environ if name.startswith("AWS_")]:
    del os.environ[name]

import boto3
from botocore.config import Config
from moto.server import ThreadedMotoServer

REGION = "us-east-1"
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
URL = f"http://{host}:{port}"


def client(service, key):
    return boto3.client(
        service,
        region_name=REGION,
        endpoint_url=URL,
        aws_access_key_id=key["key"],
        aws_secret_access_key=key["secret"],
        aws_session_token=key.get("token"),
        config=Config(retries={"max_attempts": 1}),
    )


iam = client("iam", {"key": "x", "secret": "x"})


def policy(actions):
    statement = {"Effect": "Allow", "Action": actions, "Resource": "*"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def user(name, actions):
    iam.create_user(UserName=name)
    iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=policy(actions))
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return {"key": key["AccessKeyId"], "secret": key["SecretAccessKey"]}


keys = {
    "admin": user("admin", ["*"]),
    "writer": user("writer", ["ec2:DescribeRouteTables", "ec2:ReplaceRoute"]),
    "reader": user("reader", ["ec2:DescribeRouteTables"]),
}
trust = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
role = iam.create_role(
    RoleName="router",
    AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]}),
)["Role"]
iam.put_role_policy(
    RoleName="router",
    PolicyName="p",
    PolicyDocument=policy(["ec2:DescribeRouteTables", "ec2:ReplaceRoute"]),
)
got = client("sts", {"key": "x", "secret": "x"}).assume_role(
    RoleArn=role["Arn"], RoleSessionName="router"
)["Credentials"]
# Credentials of the role, as the metadata service has them.
of_role = {
    "Code": "Success",
    "Type": "AWS-HMAC",
    "AccessKeyId": got["AccessKeyId"],
    "SecretAccessKey": got["SecretAccessKey"],
    "Token": got["SessionToken"],
    "Expiration": got["Expiration"].strftime("%Y-%m-%dT%H:%M:%SZ"),
}

# From the first request on.
plain = {"Content-Type": "text/plain"}
request = urllib.request.Request(f"{URL}/moto-api/reset-auth", b"0", plain, method="POST")
urllib.request.urlopen(request).read()

ec2 = client("ec2", keys["admin"])
vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16", AmazonProvidedIpv6CidrBlock=True)["Vpc"]["VpcId"]
subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.1.0/24")["Subnet"]["SubnetId"]


def interface():
    made = ec2.create_network_interface(SubnetId=subnet)
    return made["NetworkInterface"]["NetworkInterfaceId"]


own, other = interface(), interface()
gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)


def destination(cidr):
    kind = "DestinationIpv6CidrBlock" if ":" in cidr else "DestinationCidrBlock"
    return {kind: cidr}


def table(routes):
    """Makes a route table with these routes, each to "own", "other" or "gateway"."""
    made = ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"]
    targets = {
        "own": {"NetworkInterfaceId": own},
        "other": {"NetworkInterfaceId": other},
        "gateway": {"GatewayId": gateway},
    }
    for cidr, to in routes.items():
        ec2.create_route(RouteTableId=made, **destination(cidr), **targets[to])
    return made


def routes(of):
    """Reads the routes of a table: to "own", "other", "gateway", or what else it is."""
    names = {own: "own", other: "other", gateway: "gateway"}
    found = {}
    for route in ec2.describe_route_tables(RouteTableIds=[of])["RouteTables"][0]["Routes"]:
        cidr = route.get("DestinationCidrBlock") or route.get("DestinationIpv6CidrBlock")
        to = route.get("NetworkInterfaceId") or route.get("GatewayId")
        found[cidr] = names.get(to, to)
    return found


def say(value):
    print(json.dumps(value), flush=True)


say({"url": URL, "own": own, "other": other, "keys": keys, "of_role": of_role})
for line in sys.stdin:
    asked = json.loads(line)
    match asked["do"]:
        case "table":
            say(table(asked["routes"]))
        case "routes":
            say(routes(asked["table"]))
        case "move":
            for cidr in asked["routes"]:
                ec2.replace_route(
                    RouteTableId=asked["table"], **destination(cidr), NetworkInterfaceId=other
                )
            say(None)
os._exit(0)
