/* SPDX-License-Identifier: Apache-2.0 */
/* SPDX-FileCopyrightText: The godwit authors */

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "migrate/channel.h"
#include "migrate/tls.h"
#include "util/alloc.h"
#include "util/negative_errno.h"

/* One name for the one key: who knows the key is the one that is meant. */
static const char identity[] = "godwit";
static const unsigned char cipher_id[] = {0x13, 0x01}; /* TLS_AES_128_GCM_SHA256 */

enum { BUFFER_BYTES = 160 << 10 }; /* a frame of pages with all its records */

struct tls {
	SSL_CTX *context;
	SSL *ssl;
	uint8_t key[CHANNEL_KEY_BYTES];
};

void tls_free(struct tls *tls)
{
	if (!tls)
		return;
	SSL_free(tls->ssl);
	SSL_CTX_free(tls->context);
	OPENSSL_cleanse(tls->key, sizeof(tls->key));
	free(tls);
}

/* ---- The key ---- */

static SSL_SESSION *make_session(SSL *ssl, const struct tls *tls)
{
	const SSL_CIPHER *cipher = SSL_CIPHER_find(ssl, cipher_id);
	SSL_SESSION *session = SSL_SESSION_new();

	if (session && SSL_SESSION_set1_master_key(session, tls->key, sizeof(tls->key)) &&
	    SSL_SESSION_set_cipher(session, cipher) && SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION))
		return session;
	SSL_SESSION_free(session);
	return NULL;
}

/* SSL_CTX_set_psk_use_session_callback(3) */
static int use_session(SSL *ssl, const EVP_MD *digest, const unsigned char **ret_id, size_t *ret_id_bytes,
                       SSL_SESSION **ret_session)
{
	(void)digest;
	*ret_session = make_session(ssl, SSL_get_app_data(ssl));
	*ret_id = (const unsigned char *)identity;
	*ret_id_bytes = strlen(identity);
	return *ret_session != NULL;
}

/* SSL_CTX_set_psk_find_session_callback(3). Another name ends the handshake: there are no certificates to fall back
 * to. */
static int find_session(SSL *ssl, const unsigned char *id, size_t id_bytes, SSL_SESSION **ret_session)
{
	*ret_session = NULL;
	if (id_bytes == strlen(identity) && memcmp(id, identity, id_bytes) == 0)
		*ret_session = make_session(ssl, SSL_get_app_data(ssl));
	return 1;
}

static int hex_digit(char digit)
{
	if (digit >= '0' && digit <= '9')
		return digit - '0';
	if (digit >= 'a' && digit <= 'f')
		return digit - 'a' + 10;
	return digit >= 'A' && digit <= 'F' ? digit - 'A' + 10 : -1;
}

struct error *channel_read_key(const char *path, uint8_t ret_key[CHANNEL_KEY_BYTES])
{
	char text[2 * CHANNEL_KEY_BYTES + 2] = "";
	auto_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat stat;

	if (fd < 0 || fstat(fd, &stat) < 0)
		return error_hint(error_new(errno, "key file %s", path),
		                  "(umask 077; openssl rand -hex 32 >%s) makes one; both hosts need the same", path);
	if (stat.st_mode & (S_IRWXG | S_IRWXO))
		return error_hint(error_new(0, "key file %s can be read by others", path), "chmod 600 %s", path);
	ssize_t n = read(fd, text, sizeof(text) - 1);
	if (n < 0)
		return error_new(errno, "key file %s", path);
	for (size_t i = 0; i < CHANNEL_KEY_BYTES; i++) {
		int high = hex_digit(text[2 * i]);
		int low = high < 0 ? -1 : hex_digit(text[2 * i + 1]);

		if (low < 0)
			return error_hint(error_new(0, "key file %s doesn't hold 64 hex digits", path),
			                  "openssl rand -hex 32 makes a key");
		ret_key[i] = (uint8_t)(high << 4 | low);
	}
	return NULL;
}

/* ---- The connection ---- */

static struct error *tls_error(const char *what)
{
	unsigned long code = ERR_get_error();
	char text[256] = "the other side has ended the connection";

	if (code)
		ERR_error_string_n(code, text, sizeof(text));
	ERR_clear_error();
	return error_new(EPROTO, "%s: %s", what, text);
}

/*
 * BIO_f_buffer(3), so that several records go with one system call, each way. What is written waits for tls_flush(), or for
 * the buffer to be full. What is read isn't left to SSL_CTX_set_read_ahead(3): OpenSSL moves all that is behind a record
 * to the front of its buffer, for each record.
 */
static bool buffer_both_ways(SSL *ssl, int fd)
{
	BIO *socket = BIO_new_socket(fd, BIO_NOCLOSE);
	BIO *buffer = BIO_new(BIO_f_buffer());

	if (!socket || !buffer || !BIO_set_write_buffer_size(buffer, BUFFER_BYTES) ||
	    !BIO_set_read_buffer_size(buffer, BUFFER_BYTES)) {
		BIO_free(buffer);
		BIO_free(socket);
		return false;
	}
	BIO *both = BIO_push(buffer, socket);
	SSL_set_bio(ssl, both, both);
	return true;
}

static struct error *prepare(int fd, const uint8_t *key, struct tls *tls)
{
	const struct timeval patience = {.tv_sec = CHANNEL_PATIENCE_MS / 1000};

	memcpy(tls->key, key, sizeof(tls->key));
	tls->context = SSL_CTX_new(TLS_method());
	if (!tls->context || !SSL_CTX_set_min_proto_version(tls->context, TLS1_3_VERSION) ||
	    !SSL_CTX_set_ciphersuites(tls->context, "TLS_AES_128_GCM_SHA256"))
		return tls_error("TLS");
	SSL_CTX_set_psk_use_session_callback(tls->context, use_session);
	SSL_CTX_set_psk_find_session_callback(tls->context, find_session);
	SSL_CTX_set_num_tickets(tls->context, 0); /* nobody resumes */
	SSL_CTX_set_mode(tls->context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_AUTO_RETRY);
	tls->ssl = SSL_new(tls->context);
	if (!tls->ssl || !buffer_both_ways(tls->ssl, fd))
		return tls_error("TLS");
	SSL_set_app_data(tls->ssl, tls);
	/* A peer that stops in the middle of a record. */
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) < 0)
		return error_new(errno, "setsockopt(SO_RCVTIMEO)");
	return NULL;
}

/* Without the key the server would go on to certificates, of which there are none: so that failure is the wrong key's,
 * too. */
static struct error *shake_hands(struct tls *tls, int r, const char *what)
{
	if (r == 1 && SSL_session_reused(tls->ssl))
		return NULL;
	return error_hint(tls_error(what), "both hosts need the same key: compare the files that --key names");
}

static void free_tls(struct tls **tls)
{
	tls_free(*tls);
}

static struct error *make(int fd, const uint8_t *key, bool is_server, struct tls **ret_tls)
{
	__attribute__((cleanup(free_tls))) struct tls *tls = xalloc(sizeof(*tls));

	TRY(prepare(fd, key, tls));
	TRY(shake_hands(tls, is_server ? SSL_accept(tls->ssl) : SSL_connect(tls->ssl), "TLS handshake"));
	*ret_tls = take(tls);
	return NULL;
}

struct error *tls_connect(int fd, const uint8_t *key, struct tls **ret_tls)
{
	return make(fd, key, false, ret_tls);
}

struct error *tls_accept(int fd, const uint8_t *key, struct tls **ret_tls)
{
	return make(fd, key, true, ret_tls);
}

static ssize_t result(struct tls *tls, int r)
{
	if (r > 0)
		return r;
	switch (SSL_get_error(tls->ssl, r)) {
	case SSL_ERROR_ZERO_RETURN:
		return 0;
	case SSL_ERROR_SYSCALL:
		ERR_clear_error();
		if (errno == 0)
			errno = ECONNRESET;
		return -1;
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE: /* SO_RCVTIMEO, SO_SNDTIMEO */
		errno = ETIMEDOUT;
		return -1;
	default:
		ERR_clear_error();
		errno = EPROTO;
		return -1;
	}
}

ssize_t tls_read(struct tls *tls, void *bytes, size_t size_bytes)
{
	errno = 0;
	return result(tls, SSL_read(tls->ssl, bytes, size_bytes > INT32_MAX ? INT32_MAX : (int)size_bytes));
}

ssize_t tls_write(struct tls *tls, const void *bytes, size_t size_bytes)
{
	errno = 0;
	return result(tls, SSL_write(tls->ssl, bytes, size_bytes > INT32_MAX ? INT32_MAX : (int)size_bytes));
}

int tls_flush(struct tls *tls)
{
	errno = 0;
	if (BIO_flush(SSL_get_wbio(tls->ssl)) == 1)
		return 0;
	ERR_clear_error();
	return errno == 0 ? -ECONNRESET : errno == EAGAIN ? -ETIMEDOUT : negative_errno();
}

bool tls_pending(const struct tls *tls)
{
	return SSL_has_pending(tls->ssl) || BIO_pending(SSL_get_rbio(tls->ssl)) > 0;
}
