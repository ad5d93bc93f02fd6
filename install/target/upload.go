package target

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"sync"

	"github.com/pkg/sftp"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
)

// A File is a file, directory or symbolic link to be put on the machine.
type File struct {
	Path     string                        // absolute and clean, any bytes but NUL
	Mode     fs.FileMode                   // type, permissions, setuid, setgid and sticky bit
	UID, GID int                           // numeric owner; links belong to the user logged in
	Link     string                        // what a link points to
	Size     int64                         // of a regular file
	Open     func() (io.ReadCloser, error) // content of a regular file; again after a lost link
}

// stage is a directory beside the files to come, so that a rename puts them in
// place. Only its owner may enter it: nobody can open a file before it has its
// final mode, and what a broken upload left is removed by name.
const stage = ".nixctl-upload"

// Upload puts files on the machine. Either all of them have the content and mode
// that was asked for and are on the disk, or the error says what is wrong; at no
// time is there a half file at a final path.
//
// Directories that are missing are made, with the mode that files has for them or
// else 0755 and root's, or 0700 below /run/nixctl. Those that exist keep their mode and owner, listed or not.
// Existing files and links are replaced.
//
// Files are sent side by side with mode 0600, compared by SHA-256 with what the
// machine reads back, given their modes, synced, renamed and synced again. A link
// that is lost is dialled again and the upload restarted, until ctx is done
// or [Target.GiveUp] has passed.
// progress, if not nil, is told the bytes sent, one call at a time; they go back to
// 0 at a restart. Several uploads to one machine are done one after the other.
func (t *Target) Upload(ctx context.Context, files []File, progress func(done, total int64)) error {
	t.uploading.Lock()
	defer t.uploading.Unlock()
	p, err := newPlan(files)
	if err != nil {
		return fmt.Errorf("%s: upload: %w", t, err)
	}
	if len(files) == 0 {
		return nil
	}
	err = t.persist(ctx, func(c *conn) error {
		return c.sftp(ctx, func(s *sftp.Client) error {
			u := &upload{plan: p, conn: c, sftp: s, progress: progress}
			return u.run(ctx)
		})
	})
	if err != nil {
		return fmt.Errorf("%s: upload: %w", t, err)
	}
	return nil
}

// sftp runs op with an SFTP client of its own.
func (c *conn) sftp(ctx context.Context, op func(*sftp.Client) error) error {
	session, err := c.session(ctx)
	if err != nil {
		return err
	}
	defer session.Close()
	defer c.hangUp(ctx, session)()
	in, err := session.StdinPipe()
	if err != nil {
		return c.cause(ctx, err)
	}
	out, err := session.StdoutPipe()
	if err != nil {
		return c.cause(ctx, err)
	}
	if err := session.RequestSubsystem("sftp"); err != nil {
		return fmt.Errorf("the machine's sshd has no sftp: %w", c.cause(ctx, err))
	}
	s, err := sftp.NewClientPipe(lifeline{Reader: out, c: c}, in, sftp.UseConcurrentWrites(true))
	if err != nil {
		return c.cause(ctx, err)
	}
	defer s.Close()
	err = op(s)
	if errors.Is(err, ErrLost) {
		return err
	}
	return c.cause(ctx, err)
}

// An upload is one attempt.
type upload struct {
	*plan
	conn     *conn
	sftp     *sftp.Client
	progress func(done, total int64)

	mu     sync.Mutex
	done   int64
	hashes map[string]string // by path in a stage
}

func (u *upload) run(ctx context.Context) error {
	u.hashes = map[string]string{}
	systems, err := u.prepare(ctx)
	if err != nil {
		return err
	}
	err = u.send(ctx)
	if err == nil {
		err = u.verify(ctx, systems)
	}
	if err == nil {
		err = u.all(ctx, u.files, func(f staged) error { return u.sftp.PosixRename(f.temp, f.Path) })
	}
	if err == nil || !errors.Is(err, ErrLost) {
		err = errors.Join(err, u.clear(ctx, systems))
	}
	return err
}

// send writes all files to their stages.
func (u *upload) send(ctx context.Context) error {
	return u.all(ctx, u.files, func(f staged) error {
		if f.Mode.Type() == fs.ModeSymlink {
			return u.sftp.Symlink(f.Link, f.temp)
		}
		return u.write(f)
	})
}

// all runs op for each file, as many at a time as there may be requests on their
// way: a file takes as many as it has packets, at least one. So a thousand small
// files take the time of a few, and memory stays bounded.
func (u *upload) all(ctx context.Context, files []staged, op func(staged) error) error {
	free := semaphore.NewWeighted(u.conn.set.streams)
	group, ctx := errgroup.WithContext(ctx)
	for _, f := range files {
		share := min(f.packets(), u.conn.set.streams)
		if free.Acquire(ctx, share) != nil {
			break
		}
		group.Go(func() error {
			defer free.Release(share)
			if err := op(f); err != nil {
				return fmt.Errorf("%q: %w", f.Path, err)
			}
			return nil
		})
	}
	return group.Wait()
}

// write sends a regular file. The owner is set before the mode, because setting it
// clears the setuid bit, chown(2).
func (u *upload) write(f staged) (err error) {
	src, err := f.Open()
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := u.sftp.OpenFile(f.temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dst.Close()) }()
	if err := dst.Chmod(0o600); err != nil {
		return err
	}
	m := &meter{Reader: src, hash: sha256.New(), sent: u.sent}
	n, err := dst.ReadFromWithConcurrency(m, int(f.packets()))
	if err != nil {
		return u.whyFull(f, err)
	}
	if n != f.Size {
		return fmt.Errorf("has %d bytes, not the %d it had before; it is being changed", n, f.Size)
	}
	if err := dst.Chown(f.UID, f.GID); err != nil {
		return err
	}
	u.mu.Lock()
	u.hashes[f.temp] = fmt.Sprintf("%x", m.hash.Sum(nil))
	u.mu.Unlock()
	return dst.Chmod(f.Mode)
}

// whyFull says so if there is no space: SFTP has no error for it but "failure".
func (u *upload) whyFull(f staged, err error) error {
	var status *sftp.StatusError
	if !errors.As(err, &status) {
		return err
	}
	v, e := u.sftp.StatVFS(path.Dir(f.temp))
	if e != nil || int64(v.Bavail*v.Bsize) >= f.Size {
		return err
	}
	return fmt.Errorf("no space left on the device (%d bytes are free, the file has %d): %w", v.Bavail*v.Bsize, f.Size, err)
}

func (u *upload) sent(n int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.done += int64(n)
	if u.progress != nil {
		u.progress(u.done, u.total)
	}
}

// A meter counts and hashes what is read from it.
type meter struct {
	io.Reader
	hash hash.Hash
	sent func(n int)
}

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.Reader.Read(p)
	if n > 0 {
		m.hash.Write(p[:n])
		m.sent(n)
	}
	return n, err
}
