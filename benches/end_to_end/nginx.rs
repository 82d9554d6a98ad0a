//! nginx with a token cache in Lua: the strongest that one can make of Debian's packages, and more
//! than people run. RS256 is checked by OpenSSL through the FFI of `LuaJIT`, once a token; what goes on in its
//! place is exchanged once, as by the gateway, and kept in an LRU cache under the whole token.
//!
//! No log, no metrics.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::Failure;
use crate::seat::Addresses;
use crate::users::{
    CLIENT_ID, CLIENT_SECRET, INBOUND_SCOPE, TENANT, UPSTREAM_SCOPE, Users, issuer,
};

const MODULES: &str = "/usr/lib/nginx/modules";

/// Writes its configuration to `dir` and has `command` run it at `address`.
pub(crate) fn prepare(
    command: &mut Command,
    program: &Path,
    dir: &Path,
    address: SocketAddr,
    addresses: Addresses,
    users: &Users,
) -> Result<(), Failure> {
    fs::write(dir.join("key.pem"), &users.public_key_pem)?;
    fs::write(dir.join("swap.lua"), LUA)?;
    let configuration = dir.join("nginx.conf");
    fs::write(&configuration, text(dir, address, addresses))?;
    command.arg(program).arg("-e").arg("stderr").arg("-c").arg(configuration);
    Ok(())
}

fn text(dir: &Path, address: SocketAddr, Addresses { upstream, provider }: Addresses) -> String {
    let issuer = issuer(&format!("http://{provider}"));
    let dir = dir.display();
    format!(
        "load_module {MODULES}/ndk_http_module.so;
load_module {MODULES}/ngx_http_lua_module.so;
daemon off;
master_process off;
worker_processes 1;
pid {dir}/nginx.pid;
error_log stderr error;
events {{ worker_connections 20000; multi_accept on; }}
http {{
    access_log off;
    server_tokens off;
    tcp_nodelay on;
    keepalive_timeout 1h;
    keepalive_requests 1000000000;
    large_client_header_buffers 4 16k;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    proxy_http_version 1.1;
    proxy_set_header Connection \"\";
    lua_package_path '{dir}/?.lua;/usr/share/lua/5.1/?.lua;;';
    init_by_lua_block {{
        swap = require('swap').new({{
            key_file = '{dir}/key.pem', issuer = '{issuer}', audience = '{CLIENT_ID}',
            scope = '{INBOUND_SCOPE}', client_id = '{CLIENT_ID}', secret = '{CLIENT_SECRET}',
            upstream_scope = '{UPSTREAM_SCOPE}',
        }})
    }}
    upstream behind {{ server {upstream}; keepalive 128; keepalive_requests 1000000000; }}
    upstream provider {{ server {provider}; keepalive 64; keepalive_requests 1000000000; }}
    server {{
        listen {address} backlog=4096;
        location /swap/ {{
            access_by_lua_block {{ swap() }}
            proxy_pass http://behind;
        }}
        location / {{ proxy_pass http://behind; }}
        location = /exchange {{
            internal;
            proxy_pass_request_headers off;
            proxy_set_header Content-Type application/x-www-form-urlencoded;
            proxy_pass http://provider/{TENANT}/oauth2/v2.0/token;
        }}
    }}
}}
"
    )
}

const LUA: &str = r#"
local ffi = require("ffi")
local lru = require("resty.lrucache")
local json = require("cjson.safe")

ffi.cdef[[
typedef struct bio_st BIO;
typedef struct evp_pkey_st EVP_PKEY;
typedef struct evp_md_ctx_st EVP_MD_CTX;
typedef struct evp_md_st EVP_MD;
BIO *BIO_new_mem_buf(const void *buf, int len);
int BIO_free(BIO *a);
EVP_PKEY *PEM_read_bio_PUBKEY(BIO *bp, EVP_PKEY **x, void *cb, void *u);
EVP_MD_CTX *EVP_MD_CTX_new(void);
void EVP_MD_CTX_free(EVP_MD_CTX *ctx);
const EVP_MD *EVP_sha256(void);
int EVP_DigestVerifyInit(EVP_MD_CTX *ctx, void **pctx, const EVP_MD *type, void *e, EVP_PKEY *pkey);
int EVP_DigestVerify(EVP_MD_CTX *ctx, const unsigned char *sig, size_t siglen,
                     const unsigned char *tbs, size_t tbslen);
]]

local function read_key(file)
    local handle = assert(io.open(file, "rb"))
    local pem = handle:read("*a")
    handle:close()
    local bio = ffi.C.BIO_new_mem_buf(pem, #pem)
    local key = ffi.C.PEM_read_bio_PUBKEY(bio, nil, nil, nil)
    ffi.C.BIO_free(bio)
    assert(key ~= nil, "no public key")
    return key
end

local function decode(text)
    text = text:gsub("-", "+"):gsub("_", "/")
    return ngx.decode_base64(text .. ("="):rep(-#text % 4))
end

local function is_signed(key, signed, signature)
    local ctx = ffi.C.EVP_MD_CTX_new()
    local ok = ffi.C.EVP_DigestVerifyInit(ctx, nil, ffi.C.EVP_sha256(), nil, key) == 1
        and ffi.C.EVP_DigestVerify(ctx, signature, #signature, signed, #signed) == 1
    ffi.C.EVP_MD_CTX_free(ctx)
    return ok
end

-- The claims of a good token, or nil.
local function verify(settings, key, token)
    local header, payload, signature = token:match("^([%w_-]+)%.([%w_-]+)%.([%w_-]+)$")
    if not header then return nil end
    local head = json.decode(decode(header) or "")
    if not head or head.alg ~= "RS256" then return nil end
    local bytes = decode(signature)
    if not bytes or not is_signed(key, header .. "." .. payload, bytes) then return nil end
    local claims = json.decode(decode(payload) or "")
    local now = ngx.time()
    if not claims or claims.iss ~= settings.issuer or claims.aud ~= settings.audience
        or claims.scp ~= settings.scope or type(claims.exp) ~= "number" or claims.exp <= now
        or claims.nbf > now + 60 then
        return nil
    end
    return claims
end

local function exchange(settings, token)
    local answer = ngx.location.capture("/exchange", {
        method = ngx.HTTP_POST,
        body = ngx.encode_args({
            grant_type = "urn:ietf:params:oauth:grant-type:jwt-bearer",
            requested_token_use = "on_behalf_of",
            client_id = settings.client_id,
            client_secret = settings.secret,
            scope = settings.upstream_scope,
            assertion = token,
        }),
    })
    local granted = answer.status == 200 and json.decode(answer.body)
    return granted and granted.access_token and "Bearer " .. granted.access_token
end

local function new(settings)
    local key = read_key(settings.key_file)
    local cache = assert(lru.new(120000))
    return function()
        local authorization = ngx.var.http_authorization
        local outbound = authorization and cache:get(authorization)
        if not outbound then
            local token = authorization and authorization:match("^Bearer ([%w_.-]+)$")
            local claims = token and verify(settings, key, token)
            if not claims then return ngx.exit(401) end
            outbound = exchange(settings, token)
            if not outbound then return ngx.exit(503) end
            cache:set(authorization, outbound, claims.exp - ngx.time())
        end
        ngx.req.set_header("Authorization", outbound)
    end
end

return { new = new }
"#;
