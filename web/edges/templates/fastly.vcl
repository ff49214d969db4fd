# Fastly as an edge of Headwater: custom VCL, to be uploaded as the main one. It keeps Fastly's macros in their places.
#
{{.Comment "# "}}
#
# Beside it, in the service: no backend (it is below), no "stale" settings, no default TTL other than 0, no gzip of Fastly's own
# (the origin has compressed). With shielding, one machine of Fastly's fetches for all; between its own machines Fastly waits for 60 s,
# which cannot be changed.

backend F_headwater {
    .host = "{{.Host}}";
    .port = "{{.Port}}";
{{- if eq .Scheme "https"}}
    .ssl = true;
    .ssl_cert_hostname = "{{.Host}}";
    .ssl_sni_hostname = "{{.Host}}";
    .ssl_check_cert = always;
{{- end}}
    .connect_timeout = 3s;
    .first_byte_timeout = {{.Wait}}s;
    .between_bytes_timeout = 15s;
    .max_connections = 1000;
    .dynamic = true;
    .share_key = "headwater";
}

sub vcl_recv {
#FASTLY recv
    set req.backend = F_headwater;
    if (req.request != "GET" && req.request != "HEAD" && req.request != "FASTLYPURGE") {
        return (pass);
    }
    # No reply depends on who asks.
    unset req.http.Cookie;
    unset req.http.CMCD-Object;
    unset req.http.CMCD-Request;
    unset req.http.CMCD-Session;
    unset req.http.CMCD-Status;
    # Steering manifests are each player's own. Waiting for another's, which cannot be kept, players would get them one after the
    # other.
    if (req.url.path ~ "^/[^/]+/[^/]+/steering\.json$") {
        return (pass);
    }
    # Of the query a playlist is asked with, the three delivery directives (RFC 8216bis 6.2.5) and from when to when, sorted. One
    # that is absent is not one that is empty. All else, CMCD and tokens, is neither in the key nor sent to the origin.
    if (req.url.path ~ "\.m3u8$") {
        set req.url = querystring.filter_except(req.url,
            "_HLS_msn" + querystring.filtersep() + "_HLS_part" + querystring.filtersep() + "_HLS_skip"
            + querystring.filtersep() + "start" + querystring.filtersep() + "end");
        set req.url = querystring.sort(req.url);
    } else if (req.url.path ~ "\.(m4s|mp4|ts)$") {
        set req.url = querystring.remove(req.url);
    }
    # Accept-Encoding has become br, gzip or none before this (normalised by Fastly); Vary keeps the forms apart.
    return (lookup);
}

sub vcl_hash {
    set req.hash += req.url;
#FASTLY hash
    return (hash);
}

sub vcl_hit {
#FASTLY hit
    return (deliver);
}

sub vcl_miss {
#FASTLY miss
    return (fetch);
}

sub vcl_pass {
#FASTLY pass
    return (pass);
}

sub vcl_fetch {
#FASTLY fetch
    unset beresp.http.Alt-Svc; # it is about the origin's own port
    # Stale only for as long as stale-if-error of Cache-Control says, and never merely while something newer is fetched.
    set beresp.stale_while_revalidate = 0s;
    if (beresp.http.Cache-Control !~ "stale-if-error=") {
        set beresp.stale_if_error = 0s;
    }
    if (beresp.status >= 500 && beresp.status < 600) {
        if (stale.exists) {
            return (deliver_stale);
        }
        set beresp.ttl = 0s;
        set beresp.cacheable = false;
        return (deliver);
    }
    # Not kept, and not marked as what is never kept either (return (pass) would do that, for two minutes): what is not there
    # yet may be there with the next request.
    if (beresp.http.Cache-Control ~ "(?i)(no-store|private)") {
        set beresp.ttl = 0s;
        set beresp.cacheable = false;
        return (deliver);
    }
    # Everything else has a max-age, errors too.
    if (beresp.http.Cache-Control ~ "max-age=") {
        set beresp.cacheable = true;
    } else {
        set beresp.ttl = 0s;
        set beresp.cacheable = false;
    }
    return (deliver);
}

sub vcl_error {
#FASTLY error
    return (deliver);
}

sub vcl_deliver {
#FASTLY deliver
    return (deliver);
}

sub vcl_log {
#FASTLY log
}
