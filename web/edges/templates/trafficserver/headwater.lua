-- What of a request goes into the cache key and to the origin.

-- The delivery directives (RFC 8216bis 6.2.5) and from when to when, in one order. One that is absent is not one that is empty.
local directives = { '_HLS_msn', '_HLS_part', '_HLS_skip', 'start', 'end' }
local private = { 'Cookie', 'CMCD-Object', 'CMCD-Request', 'CMCD-Session', 'CMCD-Status' }
{{if eq .Scheme "https"}}
function read_response()
    ts.server_response.header['Alt-Svc'] = nil -- it is about the origin's own port
end
{{end}}
function do_remap()
    -- No reply depends on who asks.
    for _, name in ipairs(private) do
        ts.client_request.header[name] = nil
    end
    local path = ts.client_request.get_uri()
    -- Steering manifests are each player's own. Waiting for another's, which cannot be kept, players would get them one after the other.
    if path:match('^/[^/]+/[^/]+/steering%.json$') then
        ts.http.config_int_set(TS_LUA_CONFIG_HTTP_CACHE_HTTP, 0)
    end
    local args = ts.client_request.get_uri_args()
    if args and args ~= '' and (path:match('%.m3u8$') or path:match('%.m4s$') or path:match('%.mp4$') or path:match('%.ts$')) then
        -- All else of the query, CMCD and tokens, goes.
        local kept = {}
        if path:match('%.m3u8$') then
            local pairs = '&' .. args .. '&'
            for _, name in ipairs(directives) do
                kept[#kept + 1] = pairs:match('&(' .. name .. '=[^&]*)&') or pairs:match('&(' .. name .. ')&')
            end
        end
        ts.client_request.set_uri_args(table.concat(kept, '&'))
    end
    -- The one reply with stale-if-error, see the origin's Cache-Control.
    if path:match('^/[^/]+/[^/]+/index%.m3u8$') or path:match('^/[^/]+/[^/]+/ts/index%.m3u8$') then
        ts.http.config_int_set(TS_LUA_CONFIG_HTTP_CACHE_MAX_STALE_AGE, 60)
    end
{{- if eq .Scheme "https"}}
    ts.hook(TS_LUA_HOOK_READ_RESPONSE_HDR, read_response)
{{- end}}
    return TS_LUA_REMAP_DID_REMAP
end
