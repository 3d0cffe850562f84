/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A QMP server whose replies cost almost nothing, so that a measurement shows the client. Usage: instant_stub PATH [silent]
 *
 * One process serves all clients. It shares a processor with the client and sleeps while there is nothing to do: on two
 * processors, the time of a round trip would depend on whether a processor was idle and had to be woken up.
 * silent: the server negotiates, and then sends no replies.
 *
 * Requests may or may not end with a line end; they are at most 64 KiB. The reply to qmp_capabilities is an empty object.
 * The reply to query-commands is a short list. x-flood has the argument "count": the number of events that follow its
 * reply. The reply to every other command is that of query-status. The server ends when its parent process ends.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define MAX_REQUEST 65536
#define MAX_FD 4096

static const char greeting[] =
    "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 0, \"minor\": 2, \"major\": 7}, \"package\": \"\"}, "
    "\"capabilities\": [\"oob\"]}}\r\n";
static const char status[] = "{\"status\": \"running\", \"singlestep\": false, \"running\": true}";
static const char commands[] =
    "[{\"name\": \"query-commands\"}, {\"name\": \"query-status\"}, {\"name\": \"x-flood\"}]";
static const char event[] =
    "{\"timestamp\": {\"seconds\": 1700000000, \"microseconds\": 123456}, \"event\": \"DEVICE_DELETED\", "
    "\"data\": {\"device\": \"disk0\", \"path\": \"/machine/peripheral/disk0\"}}\r\n";

struct client {
    int depth, in_string, is_escaped;
    size_t length;
    char request[MAX_REQUEST];
};

static int is_silent;

static void check(int is_good, const char *what)
{
    if (!is_good) {
        perror(what);
        exit(1);
    }
}

static int send_all(int fd, const char *data, size_t length)
{
    while (length) {
        ssize_t sent = write(fd, data, length);
        if (sent < 0)
            return -1;
        data += sent;
        length -= sent;
    }
    return 0;
}

static int flood(int fd, long count)
{
    enum { AT_ONCE = 400 };
    static char many[AT_ONCE * sizeof event];
    size_t length = sizeof event - 1;
    for (int i = 0; i < AT_ONCE; i++)
        memcpy(many + i * length, event, length);
    for (; count > 0; count -= AT_ONCE)
        if (send_all(fd, many, length * (count < AT_ONCE ? count : AT_ONCE)))
            return -1;
    return 0;
}

static int answer(int fd, char *request)
{
    char reply[512];
    int is_negotiation = strstr(request, "\"qmp_capabilities\"") != NULL;
    const char *what = is_negotiation ? "{}" : strstr(request, "\"query-commands\"") ? commands : status;
    const char *count = strstr(request, "\"count\":"), *id = strstr(request, "\"id\":");
    int length, id_length;

    if (is_silent && !is_negotiation)
        return 0;
    if (id) {
        id += strlen("\"id\":");
        id += strspn(id, " ");
        id_length = *id == '"' ? (int)strcspn(id + 1, "\"") + 2 : (int)strspn(id, "0123456789");
        length = snprintf(reply, sizeof reply, "{\"return\": %s, \"id\": %.*s}\r\n", what, id_length, id);
    } else {
        length = snprintf(reply, sizeof reply, "{\"return\": %s}\r\n", what);
    }
    if (length >= (int)sizeof reply || send_all(fd, reply, length))
        return -1;
    return strstr(request, "\"x-flood\"") && count ? flood(fd, atol(count + strlen("\"count\":"))) : 0;
}

/* Reads once and answers every complete request; -1 if the client has closed the connection. */
static int serve(int fd, struct client *client)
{
    static char data[MAX_REQUEST];
    ssize_t got = read(fd, data, sizeof data);
    if (got <= 0)
        return -1;
    for (ssize_t i = 0; i < got; i++) {
        char c = data[i];
        if (client->depth == 0 && c != '{')
            continue;
        if (client->length == MAX_REQUEST - 1)
            return -1;
        client->request[client->length++] = c;
        if (client->in_string) {
            if (client->is_escaped)
                client->is_escaped = 0;
            else if (c == '\\')
                client->is_escaped = 1;
            else if (c == '"')
                client->in_string = 0;
        } else if (c == '"') {
            client->in_string = 1;
        } else if (c == '{') {
            client->depth++;
        } else if (c == '}' && --client->depth == 0) {
            client->request[client->length] = 0;
            client->length = 0;
            if (answer(fd, client->request))
                return -1;
        }
    }
    return 0;
}

static void serve_all(int listener)
{
    static struct client *clients[MAX_FD];
    struct epoll_event ready[256], wanted = {.events = EPOLLIN, .data.fd = listener};
    int poller = epoll_create1(0);
    check(poller >= 0, "epoll_create1");
    check(epoll_ctl(poller, EPOLL_CTL_ADD, listener, &wanted) == 0, "epoll_ctl");
    for (;;) {
        int count = epoll_wait(poller, ready, 256, -1);
        check(count >= 0 || errno == EINTR, "epoll_wait");
        for (int i = 0; i < count; i++) {
            int fd = ready[i].data.fd;
            if (fd == listener) {
                fd = accept(listener, NULL, NULL);
                check(fd >= 0 && fd < MAX_FD, "accept");
                clients[fd] = calloc(1, sizeof **clients);
                check(clients[fd] != NULL, "calloc");
                wanted.data.fd = fd;
                check(epoll_ctl(poller, EPOLL_CTL_ADD, fd, &wanted) == 0, "epoll_ctl");
                send_all(fd, greeting, sizeof greeting - 1);
            } else if (serve(fd, clients[fd])) {
                free(clients[fd]);
                close(fd);
            }
        }
    }
}

int main(int argc, char **argv)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    if (argc < 2 || strlen(argv[1]) >= sizeof address.sun_path) {
        fprintf(stderr, "usage: %s PATH [silent]\n", argv[0]);
        return 2;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_IGN);
    is_silent = argc > 2 && strcmp(argv[2], "silent") == 0;
    strcpy(address.sun_path, argv[1]);
    check(listener >= 0, "socket");
    check(bind(listener, (struct sockaddr *)&address, sizeof address) == 0, "bind");
    check(listen(listener, 4096) == 0, "listen");
    serve_all(listener);
}
