# Varnish 6 or 7 as an edge of Headwater. Start it with, for instance,
#     varnishd -a {{.ListenAt}} -f FILE -s malloc,{{.CacheSize}}m
# Players over TLS, which iPhones need for low latency, want a proxy such as Hitch in front of it (-a ...,PROXY -p feature=+http2).
#
{{.Comment "# "}}
#
# Playlists are fetched with gzip, and unpacked for those few who do not accept it: that is Varnish's own way (http_gzip_support).

vcl 4.1;

import std;

backend headwater {
    .host = "{{.Host}}";
    .port = "{{.Port}}";
    .connect_timeout = 3s;
    .first_byte_timeout = {{.Wait}}s;
    .between_bytes_timeout = 15s;
}

sub vcl_recv {
    if (req.method != "GET" && req.method != "HEAD") {
        return (pass);
    }
    # No reply depends on who asks.
    unset req.http.Cookie;
    unset req.http.CMCD-Object;
    unset req.http.CMCD-Request;
    unset req.http.CMCD-Session;
    unset req.http.CMCD-Status;

    # Steering manifests are each player's own, so nobody waits for another's.
    if (req.url ~ "^/[^/]+/[^/]+/steering\.json(\?|$)") {
        return (pass);
    }

    # Of the query a playlist is asked with, the three delivery directives (RFC 8216bis 6.2.5) and from when to when, in one order. One
    # that is absent is not one that is empty. All else, CMCD and tokens, is neither in the key nor sent to the origin.
    if (req.url ~ "^[^?]*\.m3u8\?") {
        set req.http.X-HLS = regsub(req.url, "^[^?]*\?", "&");
        set req.http.X-HLS = regsub(req.http.X-HLS,
            "^(?=(?:.*?(&_HLS_msn(?:=[^&]*)?)(?:&|$))?)(?=(?:.*?(&_HLS_part(?:=[^&]*)?)(?:&|$))?)(?=(?:.*?(&_HLS_skip(?:=[^&]*)?)(?:&|$))?)(?=(?:.*?(&start=[^&]*)(?:&|$))?)(?=(?:.*?(&end=[^&]*)(?:&|$))?).*$",
            "\1\2\3\4\5");
        set req.url = regsub(req.url, "\?.*$", "") + regsub(req.http.X-HLS, "^&", "?");
        unset req.http.X-HLS;
    } else if (req.url ~ "^[^?]*\.(m3u8|m4s|mp4|ts)(\?|$)") {
        set req.url = regsub(req.url, "\?.*$", "");
    }

    # Nothing stale while the origin answers. What may be used when it does not, see vcl_deliver, has its time from
    # stale-if-error.
    if (req.restarts == 0) {
        set req.grace = 0s;
    } else {
        set req.grace = 1h;
    }
    return (hash);
}

sub vcl_hash {
    hash_data(req.url);
    return (lookup);
}

sub vcl_backend_response {
    # How long anything is kept, errors too, is what Cache-Control says.
    set beresp.grace = std.duration(regsub(beresp.http.Cache-Control, "^(?:.*[ ,])?stale-if-error=([0-9]+).*$", "\1s"), 0s);
    set beresp.keep = 10s; # for If-None-Match
    unset beresp.http.Alt-Svc;
    if (beresp.status >= 500) {
        set beresp.ttl = 0s;
        set beresp.grace = 0s;
        set beresp.uncacheable = true;
    } else if (beresp.http.Cache-Control ~ "(?i)no-store|private") {
        # Until it changes, no request has to wait for another's; when it is there, it is kept.
        set beresp.ttl = 1s;
        set beresp.grace = 0s;
        set beresp.uncacheable = true;
    }
    return (deliver);
}

sub vcl_backend_error {
    set beresp.ttl = 0s;
    set beresp.grace = 0s;
    set beresp.http.Cache-Control = "private, no-store";
    set beresp.http.Access-Control-Allow-Origin = "*";
    set beresp.http.Retry-After = "1";
    return (deliver);
}

sub vcl_deliver {
    # The origin has failed: look once more, for what stale-if-error allows.
    if (resp.status >= 500 && req.restarts == 0 && req.url ~ "^/[^/]+/[^/]+/(ts/)?index\.m3u8$") {
        return (restart);
    }
    unset resp.http.Via;
    unset resp.http.X-Varnish;
    return (deliver);
}
