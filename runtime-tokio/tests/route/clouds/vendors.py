"""The SDKs of Microsoft and Google as clients of our fakes: what they cannot read is not like the original.

    vendors.py azure URL TOKEN
    vendors.py gcp URL TOKEN
"""

import json
import sys


def azure(url, token):
    from azure.core.credentials import AccessToken, AccessTokenInfo
    from azure.core.exceptions import HttpResponseError
    from azure.mgmt.network import NetworkManagementClient

    class Credential:
        def get_token(self, *scopes, **options):
            return AccessToken(token, 4102444800)

        def get_token_info(self, *scopes, **options):
            return AccessTokenInfo(token, 4102444800)

    client = NetworkManagementClient(
        Credential(), "sub", base_url=url, credential_scopes=["x/.default"], polling_interval=0
    )
    plain = {"enforce_https": False}
    place = ("grp", "edge")
    said = {}

    def status(call):
        try:
            call()
        except HttpResponseError as error:
            return error.status_code
        return 0

    route = client.routes.get(*place, "one", **plain)
    said["hop"] = route.next_hop_ip_address
    route.next_hop_ip_address = "10.0.0.9"
    client.routes.begin_create_or_update(*place, "one", route, **plain).result()
    said["moved"] = client.routes.get(*place, "one", **plain).next_hop_ip_address
    table = client.route_tables.get(*place, **plain)
    for route in table.routes:
        if route.next_hop_type == "VirtualAppliance":
            route.next_hop_ip_address = "10.0.0.8"
    write = lambda etag: client.route_tables.begin_create_or_update(
        *place, table, headers={"If-Match": etag}, **plain
    ).result()
    said["stale"] = status(lambda: write('W/"0"'))
    write(table.etag)
    table = client.route_tables.get(*place, **plain)
    said["all"] = [
        route.next_hop_ip_address
        for route in table.routes
        if route.next_hop_type == "VirtualAppliance"
    ]
    said["missing"] = status(lambda: client.routes.get(*place, "none", **plain))
    return said


def gcp(url, token):
    import googleapiclient.discovery
    import googleapiclient.errors
    import httplib2

    class Http(httplib2.Http):
        def request(self, uri, method="GET", body=None, headers=None, **options):
            headers = {**(headers or {}), "authorization": f"Bearer {token}"}
            return super().request(uri, method, body=body, headers=headers, **options)

    client = googleapiclient.discovery.build(
        "compute",
        "v1",
        http=Http(),
        static_discovery=True,
        client_options={"api_endpoint": f"{url}/compute/v1/"},
    )
    said = {}

    def status(request):
        try:
            request.execute()
        except googleapiclient.errors.HttpError as error:
            return error.resp.status
        return 0

    def wait(operation):
        while operation["status"] != "DONE":
            request = client.globalOperations().wait(project="p", operation=operation["name"])
            operation = request.execute()
        return operation

    routes = client.routes()
    said["hop"] = routes.get(project="p", route="peer").execute()["nextHopIp"]
    body = {
        "name": "third",
        "destRange": "192.0.2.0/24",
        "network": "projects/p/global/networks/net",
        "priority": 300,
        "nextHopIp": "10.0.0.3",
    }
    wait(routes.insert(project="p", body=body).execute())
    said["inserted"] = routes.get(project="p", route="third").execute()["network"]
    said["again"] = status(routes.insert(project="p", body=body))
    asked = {"permissions": ["compute.routes.get", "compute.routes.delete"]}
    request = routes.testIamPermissions(project="p", resource="third", body=asked)
    said["permissions"] = sorted(request.execute()["permissions"])
    wait(routes.delete(project="p", route="third").execute())
    said["missing"] = status(routes.get(project="p", route="third"))
    return said


kind, url, token = sys.argv[1:]
print(json.dumps({"azure": azure, "gcp": gcp}[kind](url, token)), flush=True)
