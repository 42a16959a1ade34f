/* SPDX-License-Identifier: (GPL-2.0 OR BSD-2-Clause) */
/*
 * odpfs: a file system over a backing directory, whose truncates tell libodp first.
 *
 * Which thread does what. Session workers (libfuse's) answer requests; they call
 * only into the backing file system, and hold no lock meanwhile that another
 * worker could want for long. Whatever can wait for the mount itself (a recall that
 * reads the owner's pages, a write-back that the kernel is asked for) runs in a
 * thread of its own (aside.c), so that there is always a worker to serve it. Calls that
 * a SIGKILL would not end are made by another process (inside.c).
 */
#ifndef ODPFS_H
#define ODPFS_H

#define FUSE_USE_VERSION 312

#include <fuse_lowlevel.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

enum { ODPFS_OK = 0, ODPFS_FAILED = 1, ODPFS_USAGE = 2 };

struct odp_recall;

/* ---- Nodes (node.c): the files that the kernel or an open file refers to ---- */

struct node {
	struct node *next; /* in its bucket; the table's lock */
	uint64_t lookups;  /* the kernel's references and ours; the table's lock */
	uint64_t parent;   /* where it was found last, a FUSE number that may be stale, */
	char *name;        /* and its name there; for reclaim.c; the table's lock */
	dev_t dev;
	ino_t ino;
	mode_t type;
	int fd;                     /* O_PATH */
	_Atomic unsigned files;     /* open files or directories, */
	_Atomic unsigned writers;   /* of them those that may have dirty pages in the kernel */
	_Atomic unsigned unsettled; /* truncates that transfers may still run behind */
	struct {
		_Atomic int err;     /* of a write-back that failed, or 0 */
		_Atomic bool probed; /* there may be room beyond its end */
		/* full.c's lock: */
		uint64_t start, end; /* what found no room */
		bool armed;          /* who asks for attributes of an open file, writes */
		bool busy, again;    /* a thread takes care of a failure; another one came */
	} full;
	_Atomic unsigned refresh; /* questions after which the kernel gets new attributes */
};

int node_init(int fd);
struct node *node_of(fuse_ino_t ino);
fuse_ino_t node_number(const struct node *node);
/* The file behind FD (O_PATH, taken over in any case), with one more lookup. */
int node_get(int fd, fuse_ino_t parent, const char *name, struct node **node, struct stat *st);
/*
 * The node of (DEV, INO), found as NAME in PARENT, with one more lookup; NULL if there is
 * none yet. It takes no descriptor.
 */
struct node *node_get_known(dev_t dev, ino_t ino, fuse_ino_t parent, const char *name);
/* The one that programs see as INO, with one more lookup, or NULL; of BACKING's own file
 * system alone. */
struct node *node_get_number(uint64_t ino);
void node_ref(struct node *node);
void node_put(struct node *node, uint64_t lookups);
size_t node_count(void);
/* Up to N that are not open, and how to make the kernel forget them: all but directories,
 * or (VISITED) directories but these; oldest buckets first. The caller frees the names. */
#define NODE_VISITED 256
struct node_visited {
	size_t n;
	uint64_t inos[NODE_VISITED]; /* as programs see them */
};
struct node_place {
	uint64_t parent;
	char *name;
};
size_t node_places(struct node_place *places, size_t n, const struct node_visited *visited);
void node_fini(void);
/* dir.c: close the directories that are open still; no session runs any more. Before
 * node_fini(). */
void dir_fini(void);

/* ---- What the mount is (main.c) ---- */

struct odpfs {
	const char *backing;    /* as a path, for df */
	const char *mountpoint; /* absolute */
	struct fuse_session *session;
	int root_fd;    /* BACKING, O_PATH */
	int proc_fd;    /* /proc/self/fd */
	uint64_t dev;   /* st_dev of its files */
	double timeout; /* seconds that names and attributes are kept in the kernel */
	bool owns;      /* root: new files are given to those who make them */
};
extern struct odpfs odpfs;

/* One line on stderr: "odpfs: ...". */
void odpfs_note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* ---- Requests, by the file that answers them ---- */

/* entry.c */
int entry_find(fuse_ino_t parent, const char *name, struct fuse_entry_param *e);
int entry_of_fd(int fd, fuse_ino_t parent, const char *name, struct fuse_entry_param *e);
void entry_reply(fuse_req_t req, int err, const struct fuse_entry_param *e);
void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t lookups);
void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets);

/* attr.c */
/* After a change by somebody without CAP_FSETID: 0 or -errno. */
int attr_drop_ids(int fd);
uint64_t attr_ino(dev_t dev, ino_t ino);
void attr_fix(struct stat *st);
void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int which,
		struct fuse_file_info *fi);
void op_statfs(fuse_req_t req, fuse_ino_t ino);

/* mode.c */
/* Around a change of modes or owners that the kernel asked for. */
void mode_change_begin(void);
void mode_change_end(void);
/* fstat(2), which never shows a mode that mode_open() lends; 0 or -errno. */
int mode_stat(int fd, struct stat *st);
/* Open a file of our own that we may not read, to read; a descriptor or -errno. */
int mode_open(int path_fd, int flags);

/* owner.c: to whom new files belong */
mode_t owner_mode(fuse_req_t req, struct node *parent, mode_t mode);
int owner_set(fuse_req_t req, struct node *parent, int dir_fd, const char *name, mode_t mode);

/* name.c */
void op_readlink(fuse_req_t req, fuse_ino_t ino);
void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev);
void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void op_symlink(fuse_req_t req, const char *text, fuse_ino_t parent, const char *name);
void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name);
void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
	       const char *new_name, unsigned flags);

/* dir.c */
void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		    struct fuse_file_info *fi);
void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);

/* file.c */
struct file {
	int fd;
	bool writer;
	struct node *node; /* with a lookup of its own */
};
struct file *file_of(const struct fuse_file_info *fi);
void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
/* NAME is TMPFILE_NAME for a file without one. */
#define TMPFILE_NAME "/"
void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
	       struct fuse_file_info *fi);
void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);

/* data.c */
int data_write(int fd, const char *buf, size_t size, off_t off);
/* Ask the kernel for what it has not written yet from OFF on, LEN bytes or (0) all.
 * Other workers must be free to take it: never in a session worker. */
void data_flush(const struct node *node, off_t off, off_t len);
void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
	      struct fuse_file_info *fi);
void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
void op_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in,
			struct fuse_file_info *fi_in, fuse_ino_t ino_out, off_t off_out,
			struct fuse_file_info *fi_out, size_t len, int flags);
void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi);

/* space.c: what takes blocks away */
bool space_truncate_waits(struct node *node, off_t size);
/* *UNSETTLED: settle_begin() was called. */
int space_truncate(struct node *node, int fd, off_t size, bool *unsettled, fuse_req_t req);
void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len,
		  struct fuse_file_info *fi);

/* range.c: data that is being written back against blocks that are being taken */
struct range {
	struct range *next;
	const struct node *node;
	uint64_t start, end;
	bool taking;
};
/* Wait for writes there that have begun; until close, range_write() leaves it out. */
void range_take(struct range *range, const struct node *node, uint64_t start, uint64_t end);
void range_close(struct range *range);
/* Write back; 0 or -errno. */
int range_write(const struct node *node, int fd, const char *buf, size_t size, off_t off);

/* full.c: when the backing file system has no room for what is written back */
void full_failed(struct node *node, int err, off_t off, size_t size);
bool full_is(const struct node *node);
void full_clear(struct node *node); /* it has been truncated */
/* Attributes of a file that is full go to the kernel with this time to live, and with a
 * call of full_answered(), before or after, which gives a lookup of NODE back. */
#define FULL_TIMEOUT 86400.0
void full_answered(struct node *node);
/* The kernel asks before a write(2) to FD of ours: 0, or -ENOSPC and the like. Not in a
 * session worker: it waits for the mount. */
int full_write(struct node *node, int fd);
/* REQ is a truncate by full.c itself; may it be? 0 or -EAGAIN. */
bool full_is_cut(fuse_req_t req);
int full_cut_allowed(const struct node *node, off_t size);
/* The last one who could write has closed it: FD is still open. */
void full_trim(struct node *node, int fd);
/*
 * ahead.c: leases are waited for before the kernel sends the truncate. By the number that
 * programs see: regions with leases are on the file now.
 */
struct ahead;
void ahead_leased(uint64_t ino);
/* A FUSE_GETXATTR: true if it is answered later, since a truncate is on its way. */
bool ahead_ask(fuse_req_t req, struct node *node, const char *name, size_t buf_size);
/* A truncate has come: 0, or -ESTALE, as which it is to be answered, to come again. Not in
 * the course of ftruncate(2) (BY_NAME). */
int ahead_begin(fuse_req_t req, const struct node *node, off_t size, bool by_name,
		struct ahead **ahead);
void ahead_end(struct ahead *ahead); /* NULL is good */

/* xattr.c */
void xattr_get(fuse_req_t req, const struct node *node, const char *name, size_t size);
void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size,
		 int flags);
void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size);
void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size);
void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name);

/* ops.c: all of them */
extern const struct fuse_lowlevel_ops ops;

/* ---- Around them ---- */

/* path.c: "/proc/self/fd/N" for calls that take no O_PATH descriptor */
struct fd_path {
	char text[32];
};
struct fd_path fd_path(int fd);
/* The size that the kernel has for NODE's file, which may be ahead of the backing
 * file's; by way of the mount, so never in a session worker. */
int path_kernel_size(struct node *node, off_t *size);
/* The file by a name on the mount, O_PATH; or -errno, -ENOENT without a name. */
int path_open(const struct node *node);
/* Have the kernel ask for its attributes anew. */
void path_kernel_refresh(const struct node *node);
int path_mount_dev(uint64_t *dev);

/* caller.c: has the thread PID CAP_SYS_ADMIN where this process has it? */
bool caller_is_admin(pid_t pid);

/* aside.c: FN(ARG) in a thread of its own; in this one if there can be none. */
void aside_run(void (*fn)(void *arg), void *arg);
unsigned aside_running(void);

/* reclaim.c: keeps the number of nodes below the limit on descriptors */
int reclaim_start(void);
void reclaim_stop(void);
void reclaim_kick(void);
void reclaim_pace(void); /* before a lookup is answered */
bool reclaim_is_tight(void);
/* One more open file or directory; false: there are as many as may be. */
bool reclaim_open(void);
void reclaim_close(void);

/*
 * device.c: /dev/fuse. Bits that it adds: for a write by somebody without CAP_FSETID, in
 * fuse_file_info.flags; for an ACL by somebody outside the file's group, in the flags of
 * setxattr; and that of libfuse's own for a truncate or a change of owner.
 */
#define DEVICE_KILL_SUIDGID (1 << 30)
#define DEVICE_ACL_KILL_SGID (1 << 30)
#define DEVICE_SETATTR_KILL_SUIDGID FUSE_SET_ATTR_KILL_SUID
int device_hook(struct fuse_session *session);

/* daemon.c */
int daemon_begin(bool foreground);
void daemon_ready(int status);

/* backing.c: one odpfs a backing directory */
int backing_lock(int root_fd); /* 0 or -EBUSY, with a line that says who has it */
int backing_relock(void);      /* the same, in the background process */

/*
 * inside.c: calls that go into the mount itself, or wait for what we have still to
 * write. In a session worker they would wait for each other; see there for the rest.
 */
int inside_start(void); /* from the main thread, before there is any other */
void inside_stop(void);
/* The kernel writes dirty pages of these bytes (LEN 0: to the end) and drops them all. */
void inside_inval(fuse_ino_t ino, off_t off, off_t len);
void inside_forget(fuse_ino_t parent, const char *name);
/* statx(2) with FLAGS, by a path on the mount; 0 or -errno. */
int inside_stat(const char *path, int flags, uint64_t *ino, off_t *size);
void inside_sync(void);
/* The file of a path on the mount, O_PATH, and its number; or -errno. */
int inside_open(const char *path, uint64_t *ino);
/* truncate(2) to SIZE; 0 or -errno. */
int inside_cut(int path_fd, off_t size);
/* The kernel asks for its attributes anew. */
void inside_refresh(int path_fd);
pid_t inside_pid(void); /* in whose name all of these come */

/* leave.c */
int leave_watch(void);
void leave_now(void);

/* recall.c: everything that is asked of libodp */
struct recall_options {
	const char *policy, *uodp;
	unsigned lease_ms;
};
int recall_options_check(const struct recall_options *options);
int recall_attach(const struct recall_options *options);
void recall_detach(void);
/* The run directory whose regions are recalled; NULL: none are. */
const char *recall_run(void);
/* There are memory regions on these bytes: recall_begin() is no quick call. */
bool recall_waits(const struct node *node, uint64_t start, uint64_t end);
/* A truncate to SIZE would wait for leases. */
bool recall_leased(const struct node *node, off_t size);
/* Wait for these alone; then registrations there wait for recall_end(). */
int recall_await(const struct node *node, uint64_t start, uint64_t end, struct odp_recall *recall,
		 fuse_req_t req);
/* For REQ: 0, -ETXTBSY, or -EINTR. */
int recall_begin(const struct node *node, uint64_t start, uint64_t end, struct odp_recall *recall,
		 fuse_req_t req);
/* True: a transfer that began before may still be under way, see settle.c. */
bool recall_end(struct odp_recall *recall);
bool recall_settle(void);

/*
 * settle.c: begin, before the answer to a truncate that left a transfer behind; end, in
 * a thread of its own, after it. What might let the file grow waits in between.
 */
void settle_begin(struct node *node);
void settle_end(struct node *node);
void settle_wait(struct node *node);
/* Until transfers that were under way are out, or for a second. */
void settle_try(void);
bool settle_is_due(const struct node *node);

#endif
